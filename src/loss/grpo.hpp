#pragma once
// loss (private): clipped policy gradient. Normalised as grpo (Shao et al., "DeepSeekMath", 2024), dapo (Yu et al.,
// 2025) or dr_grpo (Liu et al., 2025); ratios by token or by sequence (Zheng et al., "Group sequence policy
// optimization", 2025).

#include "fpdist/core/error.hpp"
#include "src/loss/describe.hpp"

namespace fpdist::loss {

Function grpo_loss;

inline void check_grpo(LossOptions& options) {
  settle_name(options.importance_sampling_level, "importance_sampling_level", Method::kGrpo, {"token", "sequence"});
  settle_name(options.scale_rewards, "scale_rewards", Method::kGrpo, {"group", "batch", "none"});
  settle_number(options.beta, "beta", 0.0);
  settle_number(options.epsilon, "epsilon", 0.2);
  settle_number(options.epsilon_high, "epsilon_high", options.epsilon);
  check<ConfigError>(options.max_completion_length >= 1, "loss.max_completion_length is ",
                     options.max_completion_length, ": use 1 or more");
}

/// The loss with one of its normalisers. Rewards have become advantages when it is taken, so its terms are the samples'
/// own and a group may be torn.
constexpr LossSpec policy_gradient(std::string_view name) {
  return {.method = Method::kGrpo,
          .name = name,
          .group = GroupShape::kAny,
          .shown = {.label = "reward", .metric = "reward"},
          .needs =
              [](const LossOptions& options) {
                return Needs{.reference = options.beta != 0, .old_logp = true, .advantage = true};
              },
          .check = check_grpo};
}

inline constexpr LossSpec kDapo = policy_gradient("dapo"), kGrpo = policy_gradient("grpo"),
                          kDrGrpo = policy_gradient("dr_grpo");

}  // namespace fpdist::loss
