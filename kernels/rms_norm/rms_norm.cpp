#include "kernels/rms_norm/rms_norm.hpp"

#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "kernels/common/checks.hpp"
#include "kernels/common/dispatch.hpp"
#include "kernels/common/wide.hpp"

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

void check_rms_norm(const at::Tensor& x, const at::Tensor& weight) {
  check_model_tensor("rms_norm", "x", x, 2);
  check_dtype("rms_norm", "weight", weight, x.scalar_type());
  check_device("rms_norm", "weight", weight, x);
  check_sizes("rms_norm", "weight", weight, {x.size(1)});
}

void check_rms_norm_backward(const at::Tensor& grad_out, const at::Tensor& x, const at::Tensor& weight) {
  check_rms_norm(x, weight);
  check_dtype("rms_norm_backward", "grad_out", grad_out, x.scalar_type());
  check_device("rms_norm_backward", "grad_out", grad_out, x);
  check_sizes("rms_norm_backward", "grad_out", grad_out, x.sizes());
}

namespace {

at::Tensor rms_norm_meta(const at::Tensor& x, const at::Tensor& weight, double, const std::optional<at::Tensor>&) {
  check_rms_norm(x, weight);
  return at::empty(x.sizes(), x.options());
}

std::tuple<at::Tensor, at::Tensor> rms_norm_backward_meta(const at::Tensor& grad_out, const at::Tensor& x,
                                                          const at::Tensor& weight, double) {
  check_rms_norm_backward(grad_out, x, weight);
  return {at::empty(x.sizes(), x.options()), wide_like(x, weight.sizes())};
}

}  // namespace
}  // namespace fpdist::kernels

TORCH_LIBRARY_FRAGMENT(fpdist, m) {
  m.def("rms_norm(Tensor x, Tensor weight, float eps, Tensor? weight_main_grad=None) -> Tensor");
  m.def("rms_norm_backward(Tensor grad_out, Tensor x, Tensor weight, float eps) -> (Tensor dx, Tensor dw)");
}

TORCH_LIBRARY_IMPL(fpdist, Meta, m) {
  m.impl("rms_norm", fpdist::kernels::rms_norm_meta);
  m.impl("rms_norm_backward", fpdist::kernels::rms_norm_backward_meta);
}
