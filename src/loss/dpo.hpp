#pragma once
// loss (private): Rafailov et al., "Direct preference optimization" (2023): -log sigmoid(beta * (chosen - rejected
// log-ratio)), mean over the step's pairs.

#include "src/loss/describe.hpp"

namespace fpdist::loss {

Function dpo_loss;

inline constexpr LossSpec kSigmoid{
    .method = Method::kDpo,
    .name = "sigmoid",
    .group = GroupShape::kPair,
    .shown = {.label = "accuracy", .metric = "rewards/accuracies"},
    .needs = [](const LossOptions&) { return Needs{.mean_logit = true, .reference = true}; },
    .check = [](LossOptions& options) { settle_number(options.beta, "beta", 0.1); }};

}  // namespace fpdist::loss
