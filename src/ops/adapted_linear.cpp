#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>

#include "fpdist/core/error.hpp"
#include "fpdist/ops/functional.hpp"
#include "kernels/linear/linear.hpp"
#include "kernels/linear/packed_weight.hpp"
#include "src/ops/dropped.hpp"
#include "src/ops/frozen_weight.hpp"
#include "src/ops/held_queue.hpp"
#include "src/ops/main_grad.hpp"

namespace fpdist::ops {
namespace {

using OptionalTensor = std::optional<at::Tensor>;

/// x W^T (+ b) (+ residual) + u B^T: where A and B have a dtype of their own, wider than the model's, the product and
/// the sum are formed in it.
at::Tensor with_product(at::Tensor y, const at::Tensor& u, const at::Tensor& b) {
  if (u.scalar_type() == y.scalar_type()) return y.addmm_(u, b.t());
  return y.to(u.scalar_type()).addmm_(u, b.t()).to(y.scalar_type());
}

/// u = s d(x) A^T, y = x W^T (+ b) (+ residual) + u B^T; d drops elements. Backwards: du = s dy B, dx = dy W + d(du A),
/// dA = du^T d(x), dB = dy^T u.
struct AdaptedLinear : torch::autograd::Function<AdaptedLinear> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, const FrozenWeight& weight,
                            const OptionalTensor& bias, const at::Tensor& a, const at::Tensor& b, double scale,
                            const MainGrad& a_grad, const MainGrad& b_grad, const OptionalTensor& residual,
                            const QueuePtr& queue, const RowDropout& dropout) {
    const at::AutoDispatchBelowAutograd below;
    const at::Tensor y = kernels::linear(x, weight.value(), bias, std::nullopt, std::nullopt, residual);
    const at::Tensor seen = drop(x, dropout).to(a.scalar_type());
    const at::Tensor u = kernels::linear(seen, a, std::nullopt, std::nullopt, std::nullopt).mul_(scale);
    const bool trained = a_grad.sum().has_value();
    context->save_for_backward(
        {trained ? x : at::Tensor(), weight.save(*context), a, b, b_grad.sum() ? u : at::Tensor(), dropout.key});
    save_dropout(*context, dropout);
    context->saved_data["scale"] = scale;
    context->saved_data["needs_x"] = x.requires_grad();
    context->saved_data["needs_residual"] = residual && residual->requires_grad();
    a_grad.save(*context, "a_grad");
    b_grad.save(*context, "b_grad");
    save_queue(*context, queue);
    return with_product(y, u, b);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grads) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &a = saved[2], &b = saved[3], &u = saved[4], &grad_out = grads[0];
    // Detached as linear's are, and for its reasons.
    const at::Tensor x = saved[0].defined() ? saved[0].detach() : at::Tensor();
    const at::Tensor dy = grad_out.requires_grad() ? grad_out.detach() : grad_out;
    const at::Tensor dy_of_pair = dy.to(b.scalar_type());
    const at::Tensor du = kernels::linear_backward_input(dy_of_pair, b).mul_(context->saved_data["scale"].toDouble());
    const RowDropout dropout = saved_dropout(*context, saved[5]);
    at::Tensor dx, d_residual;
    if (context->saved_data["needs_residual"].toBool()) d_residual = grad_out;
    if (context->saved_data["needs_x"].toBool()) {
      dx = kernels::linear_backward_input(dy, FrozenWeight::saved(*context, saved[1]).value());
      if (dropout.p == 0 && a.scalar_type() == dx.scalar_type())
        dx.addmm_(du, a);
      else
        dx.add_(drop(at::mm(du, a), dropout));
    }
    WeightGradientQueue* queue = open_queue(*context);
    const auto put = [&](const char* name, const at::Tensor& dy_of, const at::Tensor& x_of, const RowDropout& drops) {
      const MainGrad main_grad = MainGrad::saved(*context, name);
      if (!main_grad.sum()) return;
      put_or_push(queue, main_grad, [dy_of, x_of, drops](at::Tensor& sum, bool accumulates) {
        kernels::linear_backward_weight(dy_of, drop(x_of, drops).to(dy_of.scalar_type()), sum, accumulates);
      });
    };
    put("a_grad", du, x, dropout);
    put("b_grad", dy_of_pair, u, {});
    torch::autograd::variable_list all(11);
    all[0] = dx, all[8] = d_residual;
    return all;
  }
};

void check_pair(const at::Tensor& x, const Parameter& weight, const LowRankPair& pair) {
  const at::Tensor &a = pair.a.value, &b = pair.b.value;
  check(a.defined() && b.defined(), "adapted_linear: A or B beside '", weight.name,
        "' has no value: load or initialise it first");
  const at::IntArrayRef of_weight = sizes_of(weight);
  check(a.dim() == 2 && b.dim() == 2 && of_weight.size() == 2 && a.size(1) == of_weight[1] &&
            b.size(0) == of_weight[0] && a.size(0) == b.size(1),
        "adapted_linear: A ", a.sizes(), " and B ", b.sizes(), " do not fit ", weight.name, " ", of_weight,
        ": A is [r,in], B [out,r]");
  const bool may_be = a.scalar_type() == x.scalar_type() || a.scalar_type() == accumulate_dtype(x.scalar_type());
  check(may_be && b.scalar_type() == a.scalar_type(), "adapted_linear: x is ", x.scalar_type(), ", A and B beside ",
        weight.name, " are ", a.scalar_type(), " and ", b.scalar_type(), ": both x's dtype, or what it adds up in");
}

}  // namespace

at::Tensor adapted_linear(const at::Tensor& x, const Parameter& weight, const LowRankPair& pair, const Parameter* bias,
                          const at::Tensor& residual, const RowDropout& dropout) {
  check_pair(x, weight, pair);
  check(dropout.p == 0 || dropout.key.defined(), "adapted_linear: p is ", dropout.p, " beside ", weight.name,
        " and there are no keys of rows: pass RowsHere::key");
  check(!weight.main_grad.defined() && (bias == nullptr || !bias->main_grad.defined()), "adapted_linear: ", weight.name,
        " has a main grad: a weight beside a low-rank product is frozen");
  const OptionalTensor bias_value = bias ? OptionalTensor(bias->value.detach()) : std::nullopt;
  const OptionalTensor addend = residual.defined() ? OptionalTensor(residual) : std::nullopt;
  if (weight.packed && dropout.p == 0 && !at::GradMode::is_enabled()) {
    const at::Tensor u =
        kernels::linear(x.to(pair.a.value.scalar_type()), pair.a.value, std::nullopt, std::nullopt, std::nullopt);
    return with_product(kernels::packed_linear(x, *weight.packed, bias_value, addend), u.mul_(pair.scale),
                        pair.b.value);
  }
  return AdaptedLinear::apply(x, FrozenWeight(weight), bias_value, trained_value(pair.a), trained_value(pair.b),
                              pair.scale, MainGrad(pair.a), MainGrad(pair.b), addend, pair.a.queue, dropout);
}

}  // namespace fpdist::ops
