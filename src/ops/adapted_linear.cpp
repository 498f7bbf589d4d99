#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>

#include "fpdist/core/error.hpp"
#include "fpdist/ops/functional.hpp"
#include "kernels/linear/linear.hpp"
#include "src/ops/held_queue.hpp"
#include "src/ops/main_grad.hpp"

namespace fpdist::ops {
namespace {

using OptionalTensor = std::optional<at::Tensor>;

/// u = s x A^T, y = x W^T (+ b) (+ residual) + u B^T. Backwards: du = s dy B, dx = dy W + du A, dA = du^T x, dB = dy^T
/// u.
struct AdaptedLinear : torch::autograd::Function<AdaptedLinear> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const OptionalTensor& bias, const at::Tensor& a, const at::Tensor& b, double scale,
                            const MainGrad& a_grad, const MainGrad& b_grad, const OptionalTensor& residual,
                            const QueuePtr& queue) {
    const at::AutoDispatchBelowAutograd below;
    at::Tensor y = kernels::linear(x, weight, bias, std::nullopt, std::nullopt, residual);
    const at::Tensor u = kernels::linear(x, a, std::nullopt, std::nullopt, std::nullopt).mul_(scale);
    const bool trained = a_grad.sum().has_value();
    context->save_for_backward({trained ? x : at::Tensor(), weight, a, b, b_grad.sum() ? u : at::Tensor()});
    context->saved_data["scale"] = scale;
    context->saved_data["needs_x"] = x.requires_grad();
    context->saved_data["needs_residual"] = residual && residual->requires_grad();
    a_grad.save(*context, "a_grad");
    b_grad.save(*context, "b_grad");
    save_queue(*context, queue);
    return y.addmm_(u, b.t());
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grads) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &weight = saved[1], &a = saved[2], &b = saved[3], &u = saved[4], &grad_out = grads[0];
    // Detached as linear's are, and for its reasons.
    const at::Tensor x = saved[0].defined() ? saved[0].detach() : at::Tensor();
    const at::Tensor dy = grad_out.requires_grad() ? grad_out.detach() : grad_out;
    const at::Tensor du = kernels::linear_backward_input(dy, b).mul_(context->saved_data["scale"].toDouble());
    at::Tensor dx, d_residual;
    if (context->saved_data["needs_residual"].toBool()) d_residual = grad_out;
    if (context->saved_data["needs_x"].toBool()) dx = kernels::linear_backward_input(dy, weight).addmm_(du, a);
    WeightGradientQueue* queue = open_queue(*context);
    const auto put = [&](const char* name, const at::Tensor& dy_of, const at::Tensor& x_of) {
      const MainGrad main_grad = MainGrad::saved(*context, name);
      if (!main_grad.sum()) return;
      put_or_push(queue, main_grad, [dy_of, x_of](at::Tensor& sum, bool accumulates) {
        kernels::linear_backward_weight(dy_of, x_of, sum, accumulates);
      });
    };
    put("a_grad", du, x);
    put("b_grad", dy, u);
    torch::autograd::variable_list all(10);
    all[0] = dx, all[8] = d_residual;
    return all;
  }
};

void check_pair(const at::Tensor& x, const Parameter& weight, const LowRankPair& pair) {
  const at::Tensor &a = pair.a.value, &b = pair.b.value;
  check(a.defined() && b.defined() && weight.value.defined(), "adapted_linear: '", weight.name,
        "' or its A or B has no value: load or initialise it first");
  check(a.dim() == 2 && b.dim() == 2 && weight.value.dim() == 2 && a.size(1) == weight.value.size(1) &&
            b.size(0) == weight.value.size(0) && a.size(0) == b.size(1),
        "adapted_linear: A ", a.sizes(), " and B ", b.sizes(), " do not fit ", weight.name, " ", weight.value.sizes(),
        ": A is [r,in], B [out,r]");
  check(a.scalar_type() == x.scalar_type() && b.scalar_type() == x.scalar_type(), "adapted_linear: x is ",
        x.scalar_type(), ", A and B beside ", weight.name, " are ", a.scalar_type(), " and ", b.scalar_type());
}

}  // namespace

at::Tensor adapted_linear(const at::Tensor& x, const Parameter& weight, const LowRankPair& pair, const Parameter* bias,
                          const at::Tensor& residual) {
  check_pair(x, weight, pair);
  check(!weight.main_grad.defined() && (bias == nullptr || !bias->main_grad.defined()), "adapted_linear: ", weight.name,
        " has a main grad: a weight beside a low-rank product is frozen");
  const OptionalTensor bias_value = bias ? OptionalTensor(bias->value.detach()) : std::nullopt;
  const OptionalTensor addend = residual.defined() ? OptionalTensor(residual) : std::nullopt;
  return AdaptedLinear::apply(x, weight.value.detach(), bias_value, trained_value(pair.a), trained_value(pair.b),
                              pair.scale, MainGrad(pair.a), MainGrad(pair.b), addend, pair.a.queue);
}

}  // namespace fpdist::ops
