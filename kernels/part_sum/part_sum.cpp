#include "kernels/part_sum/part_sum.hpp"

#include <torch/library.h>

#include "kernels/common/checks.hpp"
#include "kernels/common/dispatch.hpp"

namespace fpdist::kernels {

void sum_parts(at::TensorList parts, const at::Tensor& out) {
  static const auto op = find_operator<decltype(sum_parts)>("fpdist::sum_parts");
  op.call(parts, out);
}

void check_part_sum(at::TensorList parts, const at::Tensor& out) {
  check(!parts.empty(), "sum_parts: no parts: pass at least one");
  check(out.dim() == 1 && out.is_contiguous(), "sum_parts: out must be a dense vector, not of shape ", out.sizes());
  for (const at::Tensor& part : parts) {
    check_dtype("sum_parts", "a part", part, out.scalar_type());
    check_device("sum_parts", "a part", part, out);
    check_sizes("sum_parts", "a part", part, out.sizes());
    check(part.is_contiguous(), "sum_parts: a part is not dense");
  }
}

namespace {

void sum_parts_meta(at::TensorList parts, const at::Tensor& out) { check_part_sum(parts, out); }

}  // namespace
}  // namespace fpdist::kernels

TORCH_LIBRARY_FRAGMENT(fpdist, m) { m.def("sum_parts(Tensor[] parts, Tensor(a!) out) -> ()"); }

TORCH_LIBRARY_IMPL(fpdist, Meta, m) { m.impl("sum_parts", fpdist::kernels::sum_parts_meta); }
