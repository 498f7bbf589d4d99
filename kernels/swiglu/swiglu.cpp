#include "kernels/swiglu/swiglu.hpp"

#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "kernels/common/checks.hpp"
#include "kernels/common/dispatch.hpp"

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

void check_swiglu(const at::Tensor& gate, const at::Tensor& up) {
  check_model_tensor("swiglu", "gate", gate, 2);
  check_dtype("swiglu", "up", up, gate.scalar_type());
  check_device("swiglu", "up", up, gate);
  check_sizes("swiglu", "up", up, gate.sizes());
}

void check_swiglu_backward(const at::Tensor& grad_out, const at::Tensor& gate, const at::Tensor& up) {
  check_swiglu(gate, up);
  check_device("swiglu_backward", "grad_out", grad_out, gate);
  check_sizes("swiglu_backward", "grad_out", grad_out, gate.sizes());
}

namespace {

at::Tensor swiglu_meta(const at::Tensor& gate, const at::Tensor& up) {
  check_swiglu(gate, up);
  return at::empty(gate.sizes(), gate.options());
}

std::tuple<at::Tensor, at::Tensor> swiglu_backward_meta(const at::Tensor& grad_out, const at::Tensor& gate,
                                                        const at::Tensor& up) {
  check_swiglu_backward(grad_out, gate, up);
  return {at::empty(gate.sizes(), gate.options()), at::empty(gate.sizes(), gate.options())};
}

}  // namespace
}  // namespace fpdist::kernels

TORCH_LIBRARY_FRAGMENT(fpdist, m) {
  m.def("swiglu(Tensor gate, Tensor up) -> Tensor");
  m.def("swiglu_backward(Tensor grad_out, Tensor gate, Tensor up) -> (Tensor d_gate, Tensor d_up)");
}

TORCH_LIBRARY_IMPL(fpdist, Meta, m) {
  m.impl("swiglu", fpdist::kernels::swiglu_meta);
  m.impl("swiglu_backward", fpdist::kernels::swiglu_backward_meta);
}
