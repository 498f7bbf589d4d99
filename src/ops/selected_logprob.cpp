#include "kernels/selected_logprob/selected_logprob.hpp"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <tuple>

#include "fpdist/core/error.hpp"
#include "fpdist/ops/functional.hpp"
#include "src/ops/main_grad.hpp"
#include "src/ops/partial_logprob.hpp"

namespace fpdist::ops {
namespace {

using OptionalTensor = std::optional<at::Tensor>;

struct SelectedLogprobFunction : torch::autograd::Function<SelectedLogprobFunction> {
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context, const at::Tensor& hidden,
                                                const at::Tensor& weight, const at::Tensor& score_row,
                                                const at::Tensor& target, double temperature,
                                                const MainGrad& weight_grad, bool keeps_logits) {
    const at::AutoDispatchBelowAutograd below;
    at::Tensor logp, entropy, argmax, lse;
    if (keeps_logits) {
      const auto kept = kernels::keeping_logprob(hidden, weight, score_row, target, temperature, /*is_relative=*/true);
      logp = kept.logit, entropy = kept.entropy, argmax = kept.argmax, lse = kept.lse;
      context->saved_data["logits"] = kept.logits;
    } else {
      std::tie(logp, entropy, argmax, lse) =
          kernels::selected_logprob(hidden, weight, score_row, target, temperature, weight_grad.sum());
    }
    context->save_for_backward({hidden, weight, score_row, target, lse, entropy});
    context->saved_data["temperature"] = temperature;
    weight_grad.save(*context, "weight_grad");
    context->saved_data["needs_weight"] = weight.requires_grad();
    context->mark_non_differentiable({argmax, lse});
    context->set_materialize_grads(false);
    return {logp, entropy, argmax, lse};
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grads) {
    const OptionalTensor logits = take_logits(*context);
    if (!grads[0].defined() && !grads[1].defined()) return torch::autograd::variable_list(7);
    const auto saved = context->get_saved_variables();
    const auto given = [](const at::Tensor& grad) { return grad.defined() ? OptionalTensor(grad) : std::nullopt; };
    at::Tensor dh, dw;
    const auto run = [&](const OptionalTensor& sum, bool accumulates) {
      dh = kernels::selected_logprob_backward(given(grads[0]), given(grads[1]), saved[0], saved[1], saved[2], saved[3],
                                              saved[4], saved[5], context->saved_data["temperature"].toDouble(), sum,
                                              accumulates, logits);
    };
    if (context->saved_data["needs_weight"].toBool())
      dw = into_main_grad(saved[1], MainGrad::saved(*context, "weight_grad"), run);
    else
      run(std::nullopt, /*accumulates=*/true);
    return {dh, dw, {}, {}, {}, {}, {}};
  }
};

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> selected_logprob_autograd(
    const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& score_row, const at::Tensor& target,
    double temperature, const OptionalTensor& weight_main_grad) {
  const auto result =
      SelectedLogprobFunction::apply(hidden, weight, score_row, target, temperature, MainGrad(weight_main_grad), false);
  return {result[0], result[1], result[2], result[3]};
}

}  // namespace

SelectedLogprob selected_logprob(const at::Tensor& hidden, const Parameter& weight, const at::Tensor& score_row,
                                 const at::Tensor& target, double temperature, bool keeps_logits) {
  // The operator takes -1 for a target in another slice of the vocabulary; here the weight is the whole of it.
  check(!target.is_cpu() || target.numel() == 0 || target.min().item<int64_t>() >= 0,
        "selected_logprob: a target is below 0: it must be a token in [0, ", weight.value.size(0), ")");
  const auto result = SelectedLogprobFunction::apply(hidden, trained_value(weight), score_row, target, temperature,
                                                     MainGrad(weight), keeps_logits);
  return {result[0], result[1], result[2]};
}

}  // namespace fpdist::ops

TORCH_LIBRARY_IMPL(fpdist, Autograd, m) { m.impl("selected_logprob", fpdist::ops::selected_logprob_autograd); }
