#include "kernels/linear/linear.hpp"

#include <torch/library.h>

#include "kernels/dispatch.hpp"

namespace fpdist::kernels {

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                  const std::optional<at::Tensor>& weight_main_grad, const std::optional<at::Tensor>& bias_main_grad) {
  static const auto op = find_operator<decltype(linear)>("fpdist::linear");
  return op.call(x, weight, bias, weight_main_grad, bias_main_grad);
}

at::Tensor linear_backward_input(const at::Tensor& grad_out, const at::Tensor& weight) {
  static const auto op = find_operator<decltype(linear_backward_input)>("fpdist::linear_backward_input");
  return op.call(grad_out, weight);
}

void linear_backward_weight(const at::Tensor& grad_out, const at::Tensor& x, at::Tensor& grad_weight) {
  static const auto op = find_operator<decltype(linear_backward_weight)>("fpdist::linear_backward_weight");
  op.call(grad_out, x, grad_weight);
}

}  // namespace fpdist::kernels

TORCH_LIBRARY_FRAGMENT(fpdist, m) {
  m.def(
      "linear(Tensor x, Tensor weight, Tensor? bias=None, Tensor? weight_main_grad=None, Tensor? bias_main_grad=None)"
      " -> Tensor");
  m.def("linear_backward_input(Tensor grad_out, Tensor weight) -> Tensor");
  m.def("linear_backward_weight(Tensor grad_out, Tensor x, Tensor(a!) grad_weight) -> ()");
}
