#include "kernels/linear/linear.hpp"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <utility>

#include "fpdist/core/error.hpp"
#include "fpdist/ops/functional.hpp"
#include "kernels/linear/packed_weight.hpp"
#include "src/ops/frozen_weight.hpp"
#include "src/ops/held_queue.hpp"
#include "src/ops/main_grad.hpp"

namespace fpdist::ops {
namespace {

using OptionalTensor = std::optional<at::Tensor>;

void put_both(const at::Tensor& dy, const at::Tensor& x, MainGrad& weight_grad, MainGrad& bias_grad) {
  weight_grad.put([&](at::Tensor& dw, bool adds_dw) {
    bias_grad.put(
        [&](at::Tensor& db, bool adds_db) { kernels::linear_backward_weight_bias(dy, x, dw, db, adds_dw, adds_db); });
  });
}

struct LinearFunction : torch::autograd::Function<LinearFunction> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const OptionalTensor& bias, const MainGrad& weight_grad, const MainGrad& bias_grad,
                            const OptionalTensor& residual, const QueuePtr& queue) {
    const at::AutoDispatchBelowAutograd below;
    const bool needs_weight = weight.requires_grad();
    context->save_for_backward({needs_weight ? x : at::Tensor(), weight});
    context->saved_data["needs_x"] = x.requires_grad();
    context->saved_data["needs_weight"] = needs_weight;
    context->saved_data["needs_bias"] = bias && bias->requires_grad();
    context->saved_data["needs_residual"] = residual && residual->requires_grad();
    weight_grad.save(*context, "weight_grad");
    bias_grad.save(*context, "bias_grad");
    save_queue(*context, queue);
    return kernels::linear(x, weight, bias, weight_grad.sum(), bias_grad.sum(), residual);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grads) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &weight = saved[1], &grad_out = grads[0];
    // Deferred work must keep neither the graph of x nor of the gradient alive. A gradient without a graph waits as it
    // is: seeing it held, autograd does not make it the residual's .grad(), where the next backward would add to it.
    const at::Tensor x = saved[0].defined() ? saved[0].detach() : at::Tensor();
    const at::Tensor dy = grad_out.requires_grad() ? grad_out.detach() : grad_out;
    WeightGradientQueue* queue = open_queue(*context);
    at::Tensor dx, dw, db, d_residual;
    if (context->saved_data["needs_residual"].toBool()) d_residual = grad_out;
    if (context->saved_data["needs_x"].toBool()) dx = kernels::linear_backward_input(grad_out, weight);
    const MainGrad weight_grad = MainGrad::saved(*context, "weight_grad");
    const MainGrad bias_grad = MainGrad::saved(*context, "bias_grad");
    const bool needs_weight = context->saved_data["needs_weight"].toBool();
    const bool needs_bias = context->saved_data["needs_bias"].toBool();
    if (needs_weight && weight_grad.sum() && needs_bias && bias_grad.sum()) {  // one pass over dy for both
      auto add_both = [dy, x, dw_sum = weight_grad, db_sum = bias_grad]() mutable { put_both(dy, x, dw_sum, db_sum); };
      queue != nullptr ? queue->push(add_both) : add_both();
      return {dx, dw, db, {}, {}, d_residual, {}};
    }
    if (needs_weight) {
      const auto write = [dy, x](at::Tensor& sum, bool accumulates) {
        kernels::linear_backward_weight(dy, x, sum, accumulates);
      };
      if (weight_grad.sum())
        put_or_push(queue, weight_grad, write);
      else
        dw = into_main_grad(weight, weight_grad, write);
    }
    if (needs_bias) {
      const auto row_sum = [dy] { return dy.sum(0, false, accumulate_dtype(dy.scalar_type())); };
      if (!bias_grad.sum())
        db = row_sum().to(dy.scalar_type());
      else if (queue != nullptr)
        queue->push([row_sum, main_grad = bias_grad]() mutable { main_grad.add(row_sum()); });
      else
        MainGrad(bias_grad).add(row_sum());
    }
    return {dx, dw, db, {}, {}, d_residual, {}};
  }
};

at::Tensor linear_autograd(const at::Tensor& x, const at::Tensor& weight, const OptionalTensor& bias,
                           const OptionalTensor& weight_main_grad, const OptionalTensor& bias_main_grad,
                           const OptionalTensor& residual) {
  return LinearFunction::apply(x, weight, bias, MainGrad(weight_main_grad), MainGrad(bias_main_grad), residual,
                               QueuePtr());
}

}  // namespace

at::Tensor linear(const at::Tensor& x, const Parameter& weight, const Parameter* bias, const at::Tensor& residual) {
  if (weight.quantized) return quantized_linear(x, weight, bias, residual);
  if (weight.packed && !at::GradMode::is_enabled()) {
    const OptionalTensor of_row = bias ? OptionalTensor(bias->value) : std::nullopt;
    return kernels::packed_linear(x, *weight.packed, of_row,
                                  residual.defined() ? OptionalTensor(residual) : std::nullopt);
  }
  if (!at::GradMode::is_enabled()) {  // nor a node of a graph to make
    const at::AutoDispatchBelowAutograd below;
    return kernels::linear(x, weight.value, bias ? OptionalTensor(bias->value) : std::nullopt, std::nullopt,
                           std::nullopt, residual.defined() ? OptionalTensor(residual) : std::nullopt);
  }
  const at::Tensor value = trained_value(weight);
  const OptionalTensor bias_value = bias ? OptionalTensor(trained_value(*bias)) : std::nullopt;
  const OptionalTensor addend = residual.defined() ? OptionalTensor(residual) : std::nullopt;
  // The operator's schema knows tensors only: the queue and what is known of the main grads go round it.
  return LinearFunction::apply(x, value, bias_value, MainGrad(weight), bias ? MainGrad(*bias) : MainGrad(), addend,
                               weight.queue);
}

}  // namespace fpdist::ops

TORCH_LIBRARY_IMPL(fpdist, Autograd, m) { m.impl("linear", fpdist::ops::linear_autograd); }
