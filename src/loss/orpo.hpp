#pragma once
// loss (private): Hong et al., "ORPO: monolithic preference optimization without reference model" (2024), equation 6:
// the mean negative log-likelihood of prompts and chosen answers, as TRL learns both, minus beta log sigmoid of the log
// of the odds' ratio, equation 7; odds p / (1 - p) of p = exp(log-prob a token).

#include "src/loss/describe.hpp"

namespace fpdist::loss {

Function orpo_loss;

inline constexpr LossSpec kOddsRatio{
    .method = Method::kOrpo,
    .name = "",
    .group = GroupShape::kPair,
    .shown = {.label = "accuracy", .metric = "rewards/accuracies"},
    .needs = [](const LossOptions&) { return Needs{.mean_logit = true, .position = true, .learns_prompt = true}; },
    .check = [](LossOptions& options) { settle_number(options.beta, "beta", 0.1); }};

}  // namespace fpdist::loss
