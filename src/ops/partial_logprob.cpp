#include "src/ops/partial_logprob.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <optional>

#include "fpdist/core/error.hpp"
#include "kernels/selected_logprob/selected_logprob.hpp"

namespace fpdist::ops {
namespace {

std::optional<at::Tensor> given(const at::Tensor& tensor) {
  return tensor.defined() ? std::optional(tensor) : std::nullopt;
}

}  // namespace

PartialLogprob partial_logprob(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& score_row,
                               const at::Tensor& target, double temperature, bool keeps_logits) {
  const at::NoGradGuard no_grad;
  if (keeps_logits) {
    const auto kept = kernels::keeping_logprob(hidden, weight, score_row, target, temperature, /*is_relative=*/false);
    return {kept.logit, kept.lse, kept.entropy, kept.best, kept.argmax, kept.logits};
  }
  const auto [logit, lse, entropy, best, argmax] =
      kernels::partial_logprob(hidden, weight, score_row, target, temperature);
  return {logit, lse, entropy, best, argmax, {}};
}

std::optional<at::Tensor> take_logits(torch::autograd::AutogradContext& context) {
  const auto found = context.saved_data.find("logits");
  if (found == context.saved_data.end()) return std::nullopt;
  const at::Tensor logits = found->second.toTensor();
  context.saved_data.erase(found);
  return given(logits);
}

MergedLogprob merge_logprobs(const PartialLogprob& stacked, const at::Tensor& score_row) {
  const at::NoGradGuard no_grad;
  check(stacked.lse.dim() == 2 && stacked.lse.size(0) > 0, "merge_logprobs: lse has shape ", stacked.lse.sizes(),
        ", needs [slices, rows]");
  const at::Tensor lse = at::logsumexp(stacked.lse, {0});
  const at::Tensor log_p = stacked.lse - lse, p = log_p.exp();
  // An empty slice has p = 0 and log p = -inf: it adds nothing.
  const at::Tensor share = at::where(p.eq(0), at::zeros({}, p.options()), p * (stacked.entropy - log_p));
  at::Tensor best = stacked.best[0], argmax = stacked.argmax[0];
  for (int64_t r = 1; r < stacked.best.size(0); ++r) {
    const at::Tensor better = stacked.best[r].gt(best);
    best = at::where(better, stacked.best[r], best);
    argmax = at::where(better, stacked.argmax[r], argmax);
  }
  return {stacked.logit.amax(0) - lse.index_select(0, score_row), lse, share.sum(0), argmax};
}

at::Tensor partial_logprob_backward(const at::Tensor& grad_logp, const at::Tensor& grad_entropy,
                                    const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& score_row,
                                    const at::Tensor& target, const MergedLogprob& merged, double temperature,
                                    MainGrad main_grad, const std::optional<at::Tensor>& logits) {
  const at::NoGradGuard no_grad;
  at::Tensor dh;
  const auto run = [&](const std::optional<at::Tensor>& sum, bool accumulates) {
    dh = kernels::selected_logprob_backward(given(grad_logp), given(grad_entropy), hidden, weight, score_row, target,
                                            merged.lse, merged.entropy, temperature, sum, accumulates, logits);
  };
  main_grad.sum() ? main_grad.put(run) : run(std::nullopt, /*accumulates=*/true);
  return dh;
}

}  // namespace fpdist::ops
