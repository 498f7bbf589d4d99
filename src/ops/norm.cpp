#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "fpdist/core/error.hpp"
#include "fpdist/ops/functional.hpp"
#include "kernels/rms_norm/rms_norm.hpp"
#include "src/ops/main_grad.hpp"

namespace fpdist::ops {
namespace {

using OptionalTensor = std::optional<at::Tensor>;

struct RmsNorm : torch::autograd::Function<RmsNorm> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            double eps, const MainGrad& weight_grad) {
    const at::AutoDispatchBelowAutograd below;
    context->save_for_backward({x, weight});
    context->saved_data["eps"] = eps;
    weight_grad.save(*context, "weight_grad");
    return kernels::rms_norm(x, weight, eps, weight_grad.sum());
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grads) {
    const auto saved = context->get_saved_variables();
    auto [dx, dw] = kernels::rms_norm_backward(grads[0], saved[0], saved[1], context->saved_data["eps"].toDouble());
    MainGrad main_grad = MainGrad::saved(*context, "weight_grad");
    if (!main_grad.sum()) return {dx, dw.to(saved[1].scalar_type()), {}, {}};
    main_grad.add(dw);
    return {dx, {}, {}, {}};
  }
};

at::Tensor rms_norm_autograd(const at::Tensor& x, const at::Tensor& weight, double eps,
                             const OptionalTensor& weight_main_grad) {
  return RmsNorm::apply(x, weight, eps, MainGrad(weight_main_grad));
}

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, const Parameter& weight, double eps) {
  check(weight.value.defined() && weight.value.dim() == 1 && x.dim() >= 1 && x.size(-1) == weight.value.size(0),
        "rms_norm: x has shape ", x.sizes(), ", its last dim must be the length of ", weight.name);
  if (!at::GradMode::is_enabled()) {
    const at::AutoDispatchBelowAutograd below;
    return kernels::rms_norm(x.reshape({-1, x.size(-1)}), weight.value, eps, std::nullopt).view(x.sizes());
  }
  const at::Tensor y = RmsNorm::apply(x.reshape({-1, x.size(-1)}), weight.value, eps, MainGrad(weight));
  return y.view(x.sizes());
}

}  // namespace fpdist::ops

TORCH_LIBRARY_IMPL(fpdist, Autograd, m) { m.impl("rms_norm", fpdist::ops::rms_norm_autograd); }
