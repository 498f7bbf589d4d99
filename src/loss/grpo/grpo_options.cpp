// What GRPO's losses need, and whether their options go together. No torch: the planning half asks here.

#include <cmath>
#include <string>

#include "fpdist/core/error.hpp"
#include "src/loss/grpo/grpo.hpp"

namespace fpdist::loss {
namespace {

constexpr double kDualClip = 3;  // Prefix-RFT's c

void check_above(double value, std::string_view key, double least) {
  check<ConfigError>(std::isfinite(value) && value > least, "loss.", key, " is ", value, ": use a finite number above ",
                     least, ", or leave it out");
}

bool has_prefixes(const LossOptions& options) { return !options.prefix_advantage.empty(); }

/// Whether what is learned of a sample depends on the whole step's entropies.
bool ranks_entropies(const LossOptions& options) {
  return options.top_entropy_quantile < 1 ||
         (has_prefixes(options) && options.prefix_entropy_scope == "step" && options.prefix_entropy_keep < 1);
}

void check_share(double value, std::string_view key) {
  check<ConfigError>(value >= 0 && value <= 1, "loss.", key, " is ", value, ": use 0 to 1");
}

void check_prefixes(LossOptions& options) {
  settle_name(options.prefix_advantage, "prefix_advantage", Method::kGrpo, {"dr_grpo", "batch"});
  settle_name(options.prefix_entropy_scope, "prefix_entropy_scope", Method::kGrpo, {"step", "sample"});
  check_share(options.prefix_entropy_keep, "prefix_entropy_keep");
  const std::string& type = options.loss_type.front();
  check<ConfigError>(type != "cispo" && type != "sapo", "loss.prefix_advantage is for clipped ratios, and loss_type ",
                     type, " has none: use dapo, grpo, dr_grpo, bnpo or luspo");
  check<ConfigError>(options.importance_sampling_level == "token",
                     "loss.prefix_advantage gives the tokens of a sample ",
                     "two advantages: loss.importance_sampling_level: token");
  check<ConfigError>(options.top_entropy_quantile == 1,
                     "loss.prefix_advantage and loss.top_entropy_quantile both choose ",
                     "tokens by their entropy: leave one of the two out");
  if (options.delta == -1) options.delta = kDualClip;
}

}  // namespace

Needs grpo_needs(const LossOptions& options) {
  return {.entropy_gradient = options.entropy_coef != 0,
          .reference = options.beta != 0,
          .old_logp = true,
          .advantage = true,
          .prefix = has_prefixes(options),
          .step = ranks_entropies(options) ? StepView::kSamples : StepView::kNone};
}

void check_grpo(LossOptions& options) {
  settle_name(options.importance_sampling_level, "importance_sampling_level", Method::kGrpo, {"token", "sequence"});
  settle_name(options.scale_rewards, "scale_rewards", Method::kGrpo, {"group", "batch", "none"});
  if (has_prefixes(options)) check_prefixes(options);
  settle_number(options.beta, "beta", 0.0);
  settle_number(options.epsilon, "epsilon", 0.2);
  settle_number(options.epsilon_high, "epsilon_high", options.epsilon);
  settle_number(options.entropy_coef, "entropy_coef", 0.0);
  if (options.delta != -1) check_above(options.delta, "delta", 1);
  if (options.off_policy_mask_threshold != -1)
    settle_number(options.off_policy_mask_threshold, "off_policy_mask_threshold", 0.0);
  check_above(options.sapo_temperature_pos, "sapo_temperature_pos", 0);
  check_above(options.sapo_temperature_neg, "sapo_temperature_neg", 0);
  check_share(options.top_entropy_quantile, "top_entropy_quantile");
  check<ConfigError>(options.max_completion_length >= 1, "loss.max_completion_length is ",
                     options.max_completion_length, ": use 1 or more");
}

}  // namespace fpdist::loss
