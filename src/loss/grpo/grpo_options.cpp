// What GRPO's losses need, and whether their options go together. No torch: the planning half asks here.

#include <cmath>

#include "fpdist/core/error.hpp"
#include "src/loss/grpo/grpo.hpp"

namespace fpdist::loss {
namespace {

void check_above(double value, std::string_view key, double least) {
  check<ConfigError>(std::isfinite(value) && value > least, "loss.", key, " is ", value, ": use a finite number above ",
                     least, ", or leave it out");
}

}  // namespace

Needs grpo_needs(const LossOptions& options) {
  return {.entropy_gradient = options.entropy_coef != 0,
          .reference = options.beta != 0,
          .old_logp = true,
          .advantage = true,
          .step = options.top_entropy_quantile < 1 ? StepView::kSamples : StepView::kNone};
}

void check_grpo(LossOptions& options) {
  settle_name(options.importance_sampling_level, "importance_sampling_level", Method::kGrpo, {"token", "sequence"});
  settle_name(options.scale_rewards, "scale_rewards", Method::kGrpo, {"group", "batch", "none"});
  settle_number(options.beta, "beta", 0.0);
  settle_number(options.epsilon, "epsilon", 0.2);
  settle_number(options.epsilon_high, "epsilon_high", options.epsilon);
  settle_number(options.entropy_coef, "entropy_coef", 0.0);
  if (options.delta != -1) check_above(options.delta, "delta", 1);
  if (options.off_policy_mask_threshold != -1)
    settle_number(options.off_policy_mask_threshold, "off_policy_mask_threshold", 0.0);
  check_above(options.sapo_temperature_pos, "sapo_temperature_pos", 0);
  check_above(options.sapo_temperature_neg, "sapo_temperature_neg", 0);
  check<ConfigError>(options.top_entropy_quantile >= 0 && options.top_entropy_quantile <= 1,
                     "loss.top_entropy_quantile is ", options.top_entropy_quantile, ": use 0 to 1");
  check<ConfigError>(options.max_completion_length >= 1, "loss.max_completion_length is ",
                     options.max_completion_length, ": use 1 or more");
}

}  // namespace fpdist::loss
