// CPU twin of part_sum.
#include <torch/library.h>

#include "kernels/part_sum/part_sum.hpp"
#include "kernels/part_sum/part_sum_composed.hpp"

namespace fpdist::kernels {
namespace {

void sum_parts_cpu(at::TensorList parts, const at::Tensor& out) {
  check_part_sum(parts, out);
  composed_sum_parts(parts, out);
}

}  // namespace
}  // namespace fpdist::kernels

TORCH_LIBRARY_IMPL(fpdist, CPU, m) { m.impl("sum_parts", fpdist::kernels::sum_parts_cpu); }
