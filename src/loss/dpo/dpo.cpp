#include "src/loss/dpo/dpo.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "src/loss/dpo/aot.hpp"
#include "src/loss/dpo/apo.hpp"
#include "src/loss/dpo/bco_pair.hpp"
#include "src/loss/dpo/discopop.hpp"
#include "src/loss/dpo/divergence.hpp"
#include "src/loss/dpo/exo_pair.hpp"
#include "src/loss/dpo/hinge.hpp"
#include "src/loss/dpo/ipo.hpp"
#include "src/loss/dpo/nca_pair.hpp"
#include "src/loss/dpo/robust.hpp"
#include "src/loss/dpo/sft.hpp"
#include "src/loss/dpo/sigmoid.hpp"
#include "src/loss/dpo/sigmoid_norm.hpp"
#include "src/loss/dpo/sppo_hard.hpp"
#include "src/loss/segments.hpp"

namespace fpdist::loss {
namespace {

constexpr std::array<std::pair<std::string_view, PairTermFunction*>, 15> kTerms{{{"sigmoid", sigmoid_term},
                                                                                 {"hinge", hinge_term},
                                                                                 {"ipo", ipo_term},
                                                                                 {"exo_pair", exo_pair_term},
                                                                                 {"nca_pair", nca_pair_term},
                                                                                 {"robust", robust_term},
                                                                                 {"bco_pair", bco_pair_term},
                                                                                 {"sppo_hard", sppo_hard_term},
                                                                                 {"aot", aot_term},
                                                                                 {"aot_unpaired", aot_unpaired_term},
                                                                                 {"apo_zero", apo_zero_term},
                                                                                 {"apo_down", apo_down_term},
                                                                                 {"discopop", discopop_term},
                                                                                 {"sft", chosen_nll_term},
                                                                                 {"sigmoid_norm", sigmoid_norm_term}}};

PairTermFunction& term_of(std::string_view name) {
  return *std::find_if(kTerms.begin(), kTerms.end(), [&](const auto& term) { return term.first == name; })->second;
}

void check_edges(const Edges& edges, const LossOptions& options) {
  const int64_t count = edges.sample.numel();
  require(edges.logp, count, "logp", "dpo");
  require(edges.ref_logp, count, "ref_logp", "dpo");
  require(edges.entropy, count, "entropy", "dpo");
  require(edges.correct, count, "correct", "dpo");
  require(edges.mean_logit, count, "mean_logit", "dpo");
  if (options.use_weighting) require(edges.log_sum_sq, count, "log_sum_sq", "dpo");
}

/// [E] weights of log-probs in their sums, or undefined where all are 1. Liu et al., "Length desensitization in direct
/// preference optimization" (2024): tokens behind the length of the pair's shorter answer weigh ld_alpha.
at::Tensor token_weights(const Edges& edges, const LossOptions& options) {
  if (options.ld_alpha < 0) return {};
  const at::Tensor shorter = at::minimum(chosen(edges.length), rejected(edges.length)).repeat_interleave(2);
  const at::Tensor behind = place_in_sample(edges).ge(at_edges(shorter, edges));
  return at::ones_like(edges.logp).masked_fill(behind, options.ld_alpha);
}

/// [B] log-probs of whole answers, the policy's and the reference's.
std::pair<at::Tensor, at::Tensor> answer_logps(const Edges& edges, const at::Tensor& token_weight) {
  at::Tensor both = at::stack({edges.logp, edges.ref_logp}, 1);
  if (token_weight.defined()) both = both * token_weight.unsqueeze(1);
  const at::Tensor sums = segment_sum(both, edges);
  return {sums.select(1, 0), sums.select(1, 1)};
}

/// [P] Zhou et al., "WPO: enhancing RLHF with weighted preference optimization" (2024), equation 2: how likely the
/// policy is to sample the pair, a token and against its own likeliest.
at::Tensor policy_weights(const Edges& edges) {
  const at::Tensor aligned = edges.logp.detach() - edges.log_sum_sq;
  const at::Tensor weight = (segment_sum(aligned, edges) / length_or_one(edges)).exp();
  return chosen(weight) * rejected(weight);
}

Pairs pairs_of(const Edges& edges, const plan::StepTotals& totals, const LossOptions& options) {
  const at::Tensor token_weight = token_weights(edges, options);
  const auto [policy, reference] = answer_logps(edges, token_weight);
  const at::Tensor ratio = policy - reference;
  const at::Tensor length = length_or_one(edges), score = score_of(ratio, options);
  const at::Tensor unweighted = token_weight.defined() ? segment_sum(edges.logp, edges) : policy;
  const auto tokens = static_cast<double>(std::max<int64_t>(totals.first_edges, 1));
  Pairs pairs{.chosen_logp = chosen(policy),
              .rejected_logp = rejected(policy),
              .chosen_ratio = chosen(ratio),
              .rejected_ratio = rejected(ratio),
              .chosen_score = chosen(score),
              .rejected_score = rejected(score),
              .chosen_length = chosen(length),
              .rejected_length = rejected(length),
              .chosen_nll = -chosen(unweighted) * (static_cast<double>(totals.groups) / tokens),
              .step_logp = {},
              .step_ref_logp = {},
              .step_weight = {},
              .place = {}};
  if (dpo_needs(options).step == StepView::kNone) return pairs;
  const at::Tensor& view = edges.step.sample;  // none of a step without groups
  const at::Tensor step =
      view.defined() ? view.to(edges.logp.dtype()).view({-1, 2, 3}) : at::zeros({0, 2, 3}, edges.logp.options());
  pairs.step_logp = step.select(2, 0), pairs.step_ref_logp = step.select(2, 1);
  pairs.step_weight = step.select(2, 2).select(1, 0);
  pairs.place = chosen(edges.place).div(2, "floor");
  return pairs;
}

std::map<std::string, Metric> metrics_of(const Edges& edges, const Pairs& pairs, const LossOptions& options) {
  const at::Tensor better = options.beta * pairs.chosen_ratio, worse = options.beta * pairs.rejected_ratio;
  // Even samples are the chosen ones. TRL takes token accuracy over the chosen completions only.
  const at::Tensor is_rejected = edges.sample.remainder(2).to(edges.logp.dtype());
  const at::Tensor is_chosen = 1 - is_rejected;
  return {{"rewards/chosen", mean_of(better)},
          {"rewards/rejected", mean_of(worse)},
          {"rewards/accuracies", mean_of(better.gt(worse).to(better.dtype()))},
          {"rewards/margins", mean_of(better - worse)},
          {"logps/chosen", mean_of(pairs.chosen_logp)},
          {"logps/rejected", mean_of(pairs.rejected_logp)},
          {"logits/chosen", mean_of(edges.mean_logit, is_chosen)},
          {"logits/rejected", mean_of(edges.mean_logit, is_rejected)},
          {"entropy", mean_of(edges.entropy)},
          {"mean_token_accuracy", mean_of(edges.correct, is_chosen)}};
}

}  // namespace

LossOutput dpo_loss(const Edges& edges, const plan::StepTotals& totals, const LossOptions& options) {
  check_edges(edges, options);
  const Pairs pairs = pairs_of(edges, totals, options);
  const at::Tensor weight = options.use_weighting ? policy_weights(edges) : at::Tensor();
  const auto count = static_cast<double>(std::max<int64_t>(totals.groups, 1));
  at::Tensor loss = at::zeros({}, edges.logp.options()), size = loss;
  for (size_t i = 0; i < options.loss_type.size(); ++i) {
    PairTerm term = term_of(options.loss_type[i])(pairs, options);
    if (weight.defined()) term.value = term.value * weight;
    term.value = weighted(term.value, edges.pair_weight, "pair_weight", "dpo");
    const double share = options.loss_weights[i] / count;
    loss = loss + share * term.value.sum();
    if (term.gradient.defined()) loss = loss + share * term.gradient.sum();
    size = size + std::abs(share) * term.value.detach().abs().sum();
  }
  return {.loss = loss, .metrics = metrics_of(edges, pairs, options), .size = size};
}

View dpo_look(const Edges& edges, const LossOptions& options) {
  const at::NoGradGuard no_grad;
  const at::Tensor token_weight = token_weights(edges, options);
  const at::Tensor weight =
      edges.pair_weight.defined() ? edges.pair_weight.repeat_interleave(2) : at::ones_like(edges.length);
  const auto [policy, reference] = answer_logps(edges, token_weight);
  return {.sample = at::stack({policy, reference, weight}, 1)};
}

}  // namespace fpdist::loss
