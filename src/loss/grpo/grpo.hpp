#pragma once
// loss (private): policy gradients on importance ratios, by token or by sequence (Zheng et al., "Group sequence policy
// optimization", 2025), one file a kind of term beside this one, and what their sum is divided by:
//   grpo     a sample's mean, mean over the step's samples: Shao et al., "DeepSeekMath" (2024)
//   dapo     tokens of the step: Yu et al., "DAPO" (2025)
//   bnpo     the same: TRL divides by the tokens of a micro-batch, and a step has none here
//   dr_grpo  samples times max_completion_length: Liu et al., "Understanding R1-zero-like training" (2025)
//   cispo    as dapo, terms of cispo.hpp
//   sapo     as grpo, terms of sapo.hpp
//   luspo    a sample's sum, mean over the samples: Liu et al., "Length-unbiased sequence policy optimization" (2026)

#include "src/loss/describe.hpp"

namespace fpdist::loss {

Function grpo_loss;
LookFunction grpo_look;

Needs grpo_needs(const LossOptions& options);
void check_grpo(LossOptions& options);

/// The loss with one of its normalisers. Rewards have become advantages when it is taken, so its terms are the samples'
/// own and a group may be torn.
constexpr LossSpec policy_gradient(std::string_view name) {
  return {.method = Method::kGrpo,
          .name = name,
          .group = GroupShape::kAny,
          .shown = {.label = "reward", .metric = "reward"},
          .needs = grpo_needs,
          .check = check_grpo};
}

inline constexpr LossSpec kDapo = policy_gradient("dapo"), kGrpo = policy_gradient("grpo"),
                          kDrGrpo = policy_gradient("dr_grpo"), kBnpo = policy_gradient("bnpo"),
                          kCispo = policy_gradient("cispo"), kSapo = policy_gradient("sapo"),
                          kLuspo = policy_gradient("luspo");

}  // namespace fpdist::loss
