#pragma once
// loss (private): Ethayarajh et al., "KTO: model alignment as prospect theoretic optimization" (2024), equation 7, over
// answers that are wanted or not, r the log-ratio of one: 1 - sigmoid(beta (r - z)) where it is wanted,
// 1 - sigmoid(beta (z - r)) where not, times their weights; z is the mean log-ratio of prompts with other prompts'
// answers, at least 0, and has no gradient. apo_zero_unpaired (D'Oosterlinck et al., "Anchored preference
// optimization", 2024, equation 7, by answers): z = 0.

#include "src/loss/describe.hpp"

namespace fpdist::loss {

Function kto_loss;
LookFunction kto_look;

inline void check_kto(LossOptions& options) {
  settle_number(options.beta, "beta", 0.1);
  settle_number(options.desirable_weight, "desirable_weight", 1.0);
  settle_number(options.undesirable_weight, "undesirable_weight", 1.0);
}

constexpr LossSpec by_verdict(std::string_view name, Needs (*needs)(const LossOptions&)) {
  return {.method = Method::kKto,
          .name = name,
          .group = GroupShape::kSingle,
          .shown = {.label = "margin", .metric = "rewards/margins"},
          .needs = needs,
          .check = check_kto};
}

inline constexpr LossSpec kKto = by_verdict("kto", [](const LossOptions&) {
  return Needs{.mean_logit = true, .reference = true, .wanted = true, .step = StepView::kMismatched};
});
inline constexpr LossSpec kApoZeroUnpaired = by_verdict("apo_zero_unpaired", [](const LossOptions&) {
  return Needs{.mean_logit = true, .reference = true, .wanted = true};
});

}  // namespace fpdist::loss
