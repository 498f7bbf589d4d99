#include "kernels/rms_norm/rms_norm.hpp"

#include <torch/library.h>

#include "kernels/dispatch.hpp"

namespace fpdist::kernels {

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps,
                    const std::optional<at::Tensor>& weight_main_grad) {
  static const auto op = find_operator<decltype(rms_norm)>("fpdist::rms_norm");
  return op.call(x, weight, eps, weight_main_grad);
}

std::tuple<at::Tensor, at::Tensor> rms_norm_backward(const at::Tensor& grad_out, const at::Tensor& x,
                                                     const at::Tensor& weight, double eps) {
  static const auto op = find_operator<decltype(rms_norm_backward)>("fpdist::rms_norm_backward");
  return op.call(grad_out, x, weight, eps);
}

}  // namespace fpdist::kernels

TORCH_LIBRARY_FRAGMENT(fpdist, m) {
  m.def("rms_norm(Tensor x, Tensor weight, float eps, Tensor? weight_main_grad=None) -> Tensor");
  m.def("rms_norm_backward(Tensor grad_out, Tensor x, Tensor weight, float eps) -> (Tensor dx, Tensor dw)");
}
