#include "kernels/part_sum/part_sum_composed.hpp"

#include <ATen/ATen.h>

namespace fpdist::kernels {

void composed_sum_parts(at::TensorList parts, const at::Tensor& out) {
  const at::ScalarType dtype = out.scalar_type() == at::kBFloat16 ? at::kFloat : out.scalar_type();
  at::Tensor sum = parts.front().to(dtype, /*non_blocking=*/false, /*copy=*/true);
  for (size_t part = 1; part < parts.size(); ++part) sum.add_(parts[part].to(dtype));
  out.copy_(sum);
}

}  // namespace fpdist::kernels
