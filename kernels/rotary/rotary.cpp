#include "kernels/rotary/rotary.hpp"

#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <utility>

#include "kernels/common/checks.hpp"
#include "kernels/common/dispatch.hpp"

namespace fpdist::kernels {

at::Tensor rotary(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool inverse) {
  static const auto op = find_operator<decltype(rotary)>("fpdist::rotary");
  return op.call(x, cos, sin, inverse);
}

void check_rotary(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  check_model_tensor("rotary", "x", x, 3);
  check(x.size(2) % 2 == 0, "rotary: head size ", x.size(2), " is odd: the two halves must be equal");
  for (const auto& [name, tensor] : {std::pair{"cos", &cos}, {"sin", &sin}}) {
    check_dtype("rotary", name, *tensor, accumulate_dtype_of(x.scalar_type()));
    check_device("rotary", name, *tensor, x);
    check_sizes("rotary", name, *tensor, {x.size(0), x.size(2) / 2});
  }
}

namespace {

at::Tensor rotary_meta(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool) {
  check_rotary(x, cos, sin);
  return at::empty(x.sizes(), x.options());
}

}  // namespace
}  // namespace fpdist::kernels

TORCH_LIBRARY_FRAGMENT(fpdist, m) { m.def("rotary(Tensor x, Tensor cos, Tensor sin, bool inverse=False) -> Tensor"); }

TORCH_LIBRARY_IMPL(fpdist, Meta, m) { m.impl("rotary", fpdist::kernels::rotary_meta); }
