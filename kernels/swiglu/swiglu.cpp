#include "kernels/swiglu/swiglu.hpp"

#include <torch/library.h>

#include "kernels/dispatch.hpp"

namespace fpdist::kernels {

at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) {
  static const auto op = find_operator<decltype(swiglu)>("fpdist::swiglu");
  return op.call(gate, up);
}

std::tuple<at::Tensor, at::Tensor> swiglu_backward(const at::Tensor& grad_out, const at::Tensor& gate,
                                                   const at::Tensor& up) {
  static const auto op = find_operator<decltype(swiglu_backward)>("fpdist::swiglu_backward");
  return op.call(grad_out, gate, up);
}

}  // namespace fpdist::kernels

TORCH_LIBRARY_FRAGMENT(fpdist, m) {
  m.def("swiglu(Tensor gate, Tensor up) -> Tensor");
  m.def("swiglu_backward(Tensor grad_out, Tensor gate, Tensor up) -> (Tensor d_gate, Tensor d_up)");
}
