#pragma once
// Tests: a run that is over in a moment and exact: the preset `tiny` in float64.

#include <string>

#include "fpdist/config/config.hpp"

namespace fpdist::test {

/// Options away from their defaults, so that every term of a loss counts. `variant`, for GRPO: a loss_type, or
/// sequence: grpo by sequences.
inline config::Config tiny_config(Method method, const std::string& variant = "grpo") {
  config::Config config;
  config.method = method;
  config.model.preset = "tiny";
  config.model.seed = 3;
  config.model.dtype = DType::kFloat64;
  config.data.path = {"unused"};
  config.optim = {.learning_rate = 1e-3, .adam_epsilon = 1e-4, .weight_decay = 0.01, .max_grad_norm = 0.0};
  config.pack.max_tokens = 96;
  if (method == Method::kGrpo) {
    config.loss.beta = 0.1, config.loss.epsilon_high = 0.3;
    config.loss.loss_type = {variant == "sequence" ? "grpo" : variant};
    if (variant == "sequence") config.loss.importance_sampling_level = "sequence";
  }
  if (method == Method::kReward) config.loss.center_rewards_coefficient = 0.05;
  return config;
}

}  // namespace fpdist::test
