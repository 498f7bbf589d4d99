// Ranges are the losses' own: resolved() checks what the method's loss reads.

#include "fpdist/loss/options.hpp"

#include "fpdist/loss/spec.hpp"
#include "src/core/key.hpp"

namespace fpdist::loss {

std::span<const Key> LossOptions::keys() {
  using Options = LossOptions;
  static const std::array kKeys{
      FPDIST_KEY(loss_type, "empty: the method's first", Valid{.values = names_by_method()}),
      FPDIST_KEY(beta, "weight of the reference; -1: 0.1 for dpo, 0 for grpo", Valid{.values = ">= 0 or -1"}),
      FPDIST_KEY(precompute_ref_log_probs,
                 "dpo: reference log-probs of all data before the first step, then no reference model"),
      FPDIST_KEY(center_rewards_coefficient, "reward: weight of mean((r_chosen + r_rejected)^2)",
                 Valid{.values = ">= 0"}),
      FPDIST_KEY(epsilon, "grpo: lower clip range", Valid{.values = "> 0"}),
      FPDIST_KEY(epsilon_high, "grpo: upper clip range; -1: as loss.epsilon", Valid{.values = "> 0 or -1"}),
      FPDIST_KEY(importance_sampling_level, "grpo: what one importance ratio covers",
                 Valid{.values = "token | sequence"}),
      FPDIST_KEY(scale_rewards, "grpo: over what advantages are scaled", Valid{.values = "group | batch | none"}),
      FPDIST_KEY(use_bias_correction_kl, "grpo: multiply the KL estimate by the importance ratio"),
      FPDIST_KEY(mask_truncated_completions,
                 "grpo: completions that were cut count in their group's advantages and not in the loss"),
      FPDIST_KEY(max_completion_length, "dr_grpo: divides by samples times this", Valid{.values = ">= 1"})};
  return kKeys;
}

}  // namespace fpdist::loss
