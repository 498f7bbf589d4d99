#include "src/loss/dpo.hpp"

#include <ATen/ATen.h>

#include <algorithm>

#include "src/loss/segments.hpp"

namespace fpdist::loss {

LossOutput dpo_loss(const Edges& edges, const plan::StepTotals& totals, const LossOptions& options) {
  const int64_t count = edges.sample.numel();
  require(edges.logp, count, "logp", "dpo");
  require(edges.ref_logp, count, "ref_logp", "dpo");
  require(edges.entropy, count, "entropy", "dpo");
  require(edges.correct, count, "correct", "dpo");
  require(edges.mean_logit, count, "mean_logit", "dpo");

  const at::Tensor policy = segment_sum(edges.logp, edges);
  const at::Tensor reward = options.beta * (policy - segment_sum(edges.ref_logp, edges));
  const at::Tensor margin = chosen(reward) - rejected(reward);
  const auto pairs = static_cast<double>(std::max<int64_t>(totals.groups, 1));

  // Even samples are the chosen ones. TRL takes token accuracy over the chosen completions only.
  const at::Tensor is_rejected = edges.sample.remainder(2).to(edges.logp.dtype());
  const at::Tensor is_chosen = 1 - is_rejected;
  return {.loss = -weighted(at::log_sigmoid(margin), edges.pair_weight, "pair_weight", "dpo").sum() / pairs,
          .metrics = {{"rewards/chosen", mean_of(chosen(reward))},
                      {"rewards/rejected", mean_of(rejected(reward))},
                      {"rewards/accuracies", mean_of(margin.gt(0).to(reward.dtype()))},
                      {"rewards/margins", mean_of(margin)},
                      {"logps/chosen", mean_of(chosen(policy))},
                      {"logps/rejected", mean_of(rejected(policy))},
                      {"logits/chosen", mean_of(edges.mean_logit, is_chosen)},
                      {"logits/rejected", mean_of(edges.mean_logit, is_rejected)},
                      {"entropy", mean_of(edges.entropy)},
                      {"mean_token_accuracy", mean_of(edges.correct, is_chosen)}}};
}

}  // namespace fpdist::loss
