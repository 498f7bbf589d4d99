#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>

#include "fpdist/core/error.hpp"
#include "fpdist/ops/functional.hpp"
#include "src/ops/main_grad.hpp"

namespace fpdist::ops {
namespace {

using OptionalTensor = std::optional<at::Tensor>;

/// y = z c + b + residual, c = m / norm. Backwards: dz = dy c, dm = sum over rows of dy z / norm.
struct ScaledColumns : torch::autograd::Function<ScaledColumns> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& z, const at::Tensor& magnitude,
                            const at::Tensor& norm, const OptionalTensor& bias, const MainGrad& main_grad,
                            const OptionalTensor& residual) {
    const at::AutoDispatchBelowAutograd below;
    const at::Tensor factor = magnitude.to(norm.scalar_type()).div(norm);
    context->save_for_backward({main_grad.sum() ? z : at::Tensor(), factor, norm});
    context->saved_data["needs_residual"] = residual && residual->requires_grad();
    main_grad.save(*context, "main_grad");
    at::Tensor y = (z * factor).to(z.scalar_type());
    if (bias) y.add_(*bias);
    if (residual) y.add_(*residual);
    return y;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grads) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &z = saved[0], &factor = saved[1], &norm = saved[2], &dy = grads[0];
    if (z.defined()) {
      const at::Tensor dm = dy.mul(z).sum(0, false, norm.scalar_type()).div_(norm);
      MainGrad main_grad = MainGrad::saved(*context, "main_grad");
      main_grad.add(dm);
    }
    torch::autograd::variable_list all(6);
    all[0] = (dy * factor).to(dy.scalar_type());
    if (context->saved_data["needs_residual"].toBool()) all[5] = dy;
    return all;
  }
};

}  // namespace

at::Tensor scaled_columns(const at::Tensor& z, const Parameter& magnitude, const at::Tensor& norm,
                          const Parameter* bias, const at::Tensor& residual) {
  check(z.dim() == 2 && magnitude.value.defined() && magnitude.value.sizes() == at::IntArrayRef{z.size(1)} &&
            norm.sizes() == magnitude.value.sizes(),
        "scaled_columns: z is ", z.sizes(), ", ", magnitude.name, " and the norms must be [", z.size(-1), "]");
  const OptionalTensor bias_value = bias ? OptionalTensor(bias->value.detach()) : std::nullopt;
  const OptionalTensor addend = residual.defined() ? OptionalTensor(residual) : std::nullopt;
  return ScaledColumns::apply(z, trained_value(magnitude), norm.detach(), bias_value, MainGrad(magnitude), addend);
}

at::Tensor row_squares(const at::Tensor& weight_squares, const Parameter& weight, const LowRankPair& pair) {
  const at::NoGradGuard constant;
  const at::ScalarType wide = weight_squares.scalar_type();
  const at::Tensor frozen = frozen_value(weight);
  const at::Tensor a = pair.a.value.to(wide), b = pair.b.value.to(wide);
  const at::Tensor cross = at::mm(frozen, pair.a.value.to(frozen.scalar_type()).t()).to(wide).mul_(b).sum(1);
  const at::Tensor own = at::mm(b, at::mm(a, a.t())).mul_(b).sum(1);
  return weight_squares + 2.0 * pair.scale * cross + pair.scale * pair.scale * own;
}

}  // namespace fpdist::ops
