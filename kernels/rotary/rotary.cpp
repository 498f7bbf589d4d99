#include "kernels/rotary/rotary.hpp"

#include <torch/library.h>

#include "kernels/dispatch.hpp"

namespace fpdist::kernels {

at::Tensor rotary(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool inverse) {
  static const auto op = find_operator<decltype(rotary)>("fpdist::rotary");
  return op.call(x, cos, sin, inverse);
}

}  // namespace fpdist::kernels

TORCH_LIBRARY_FRAGMENT(fpdist, m) { m.def("rotary(Tensor x, Tensor cos, Tensor sin, bool inverse=False) -> Tensor"); }
