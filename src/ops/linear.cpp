#include "kernels/linear/linear.hpp"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "fpdist/core/error.hpp"
#include "fpdist/ops/functional.hpp"
#include "src/ops/main_grad.hpp"

namespace fpdist::ops {
namespace {

using OptionalTensor = std::optional<at::Tensor>;

struct Linear : torch::autograd::Function<Linear> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const OptionalTensor& bias, const OptionalTensor& weight_grad,
                            const OptionalTensor& bias_grad) {
    const at::AutoDispatchBelowAutograd below;
    context->save_for_backward({x, weight});
    context->saved_data["needs_x"] = x.requires_grad();
    context->saved_data["needs_weight"] = weight.requires_grad();
    context->saved_data["needs_bias"] = bias && bias->requires_grad();
    context->saved_data["weight_grad"] = weight_grad;
    context->saved_data["bias_grad"] = bias_grad;
    return kernels::linear(x, weight, bias, weight_grad, bias_grad);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grads) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &grad_out = grads[0];
    at::Tensor dx, dw, db;
    if (context->saved_data["needs_x"].toBool()) dx = kernels::linear_backward_input(grad_out, weight);
    if (context->saved_data["needs_weight"].toBool())
      dw = into_main_grad(weight, context->saved_data["weight_grad"].toOptional<at::Tensor>(),
                          [&](at::Tensor& sum) { kernels::linear_backward_weight(grad_out, x, sum); });
    if (context->saved_data["needs_bias"].toBool()) {
      const auto main_grad = context->saved_data["bias_grad"].toOptional<at::Tensor>();
      const at::Tensor sum = grad_out.sum(0, false, accumulate_dtype(grad_out.scalar_type()));
      main_grad ? void(main_grad->add_(sum)) : void(db = sum.to(grad_out.scalar_type()));
    }
    return {dx, dw, db, {}, {}};
  }
};

at::Tensor linear_autograd(const at::Tensor& x, const at::Tensor& weight, const OptionalTensor& bias,
                           const OptionalTensor& weight_main_grad, const OptionalTensor& bias_main_grad) {
  return Linear::apply(x, weight, bias, weight_main_grad, bias_main_grad);
}

}  // namespace

at::Tensor linear(const at::Tensor& x, const Parameter& weight, const Parameter* bias) {
  return kernels::linear(x, trained_value(weight), bias ? OptionalTensor(trained_value(*bias)) : std::nullopt,
                         main_grad_of(weight), bias ? main_grad_of(*bias) : std::nullopt);
}

}  // namespace fpdist::ops

TORCH_LIBRARY_IMPL(fpdist, Autograd, m) { m.impl("linear", fpdist::ops::linear_autograd); }
