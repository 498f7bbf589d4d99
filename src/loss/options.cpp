// Ranges are the losses' own: resolved() checks what the method's loss reads.

#include "fpdist/loss/options.hpp"

#include "fpdist/loss/spec.hpp"
#include "src/core/key.hpp"

namespace fpdist::loss {

std::span<const Key> LossOptions::keys() {
  using Options = LossOptions;
  static const std::array kKeys{
      FPDIST_KEY(loss_type, "empty: the method's first; dpo adds several up", Valid{.values = names_by_method()}),
      FPDIST_KEY(loss_weights, "dpo: what each loss of a list is multiplied by; empty: 1"),
      FPDIST_KEY(beta, "weight of the reference; -1: 0 for grpo, 0.1 for the others", Valid{.values = ">= 0 or -1"}),
      FPDIST_KEY(precompute_ref_log_probs,
                 "dpo: reference log-probs of all data before the first step, then no reference model"),
      FPDIST_KEY(
          label_smoothing,
          "dpo: robust, exo_pair, aot, aot_unpaired; cpo: sigmoid, simpo: how likely a pair is the wrong way round",
          Valid{.values = "0 ... 0.5"}),
      FPDIST_KEY(f_divergence_type, "dpo: what holds the policy near the reference",
                 Valid{.values = "reverse_kl | forward_kl | js_divergence | alpha_divergence"}),
      FPDIST_KEY(f_alpha_divergence_coef, "dpo: alpha of alpha_divergence"),
      FPDIST_KEY(ld_alpha, "dpo: weight of tokens behind the length of the pair's shorter answer; -1: 1",
                 Valid{.values = "0 ... 1 or -1"}),
      FPDIST_KEY(use_weighting, "dpo: weigh pairs by the policy's own probability of them (WPO)"),
      FPDIST_KEY(discopop_tau, "dpo, discopop: temperature of the blend", Valid{.values = "> 0"}),
      FPDIST_KEY(cpo_alpha, "cpo: weight of the chosen answers' negative log-likelihood; SimPO: 0",
                 Valid{.values = ">= 0"}),
      FPDIST_KEY(simpo_gamma, "cpo, simpo: the margin that is wanted, over beta; comparative: the margin",
                 Valid{.values = ">= 0"}),
      FPDIST_KEY(kl_weight,
                 "cpo, comparative: weight of the divergence from the reference, over the vocabulary; 0: none",
                 Valid{.values = ">= 0"}),
      FPDIST_KEY(alpha, "cpo: alpha of AlphaPO's rewards; 0: log-probs"),
      FPDIST_KEY(desirable_weight, "kto: weight of wanted answers", Valid{.values = ">= 0"}),
      FPDIST_KEY(undesirable_weight, "kto: weight of unwanted answers", Valid{.values = ">= 0"}),
      FPDIST_KEY(center_rewards_coefficient, "reward: weight of mean((r_chosen + r_rejected)^2)",
                 Valid{.values = ">= 0"}),
      FPDIST_KEY(epsilon, "grpo: lower clip range", Valid{.values = "> 0"}),
      FPDIST_KEY(epsilon_high, "grpo: upper clip range (cispo: the cap itself); -1: as loss.epsilon",
                 Valid{.values = "> 0 or -1"}),
      FPDIST_KEY(delta, "grpo: cap of the unclipped ratio; -1: none", Valid{.values = "> 1 or -1"}),
      FPDIST_KEY(sapo_temperature_pos, "grpo, sapo: temperature of positive advantages", Valid{.values = "> 0"}),
      FPDIST_KEY(sapo_temperature_neg, "grpo, sapo: temperature of the others", Valid{.values = "> 0"}),
      FPDIST_KEY(importance_sampling_level, "grpo: what one importance ratio covers",
                 Valid{.values = "token | sequence"}),
      FPDIST_KEY(scale_rewards, "grpo: over what advantages are scaled", Valid{.values = "group | batch | none"}),
      FPDIST_KEY(use_bias_correction_kl, "grpo: multiply the KL estimate by the importance ratio"),
      FPDIST_KEY(mask_truncated_completions,
                 "grpo: completions that were cut count in their group's advantages and not in the loss"),
      FPDIST_KEY(top_entropy_quantile, "grpo: share of the step's tokens, of largest entropy, that are learned",
                 Valid{.values = "0 ... 1"}),
      FPDIST_KEY(entropy_coef, "grpo: weight of the mean entropy, subtracted from the loss", Valid{.values = ">= 0"}),
      FPDIST_KEY(off_policy_mask_threshold,
                 "grpo: samples of negative advantage with a larger mean log(old / new) do not count; -1: all do",
                 Valid{.values = ">= 0 or -1"}),
      FPDIST_KEY(prefix_advantage, "grpo: Prefix-RFT, advantages of completions that begin with a demonstration",
                 Valid{.values = "dr_grpo | batch, or empty"}),
      FPDIST_KEY(prefix_entropy_keep,
                 "grpo, Prefix-RFT: share of demonstrations' tokens, of largest entropy, that are learned",
                 Valid{.values = "0 ... 1"}),
      FPDIST_KEY(prefix_entropy_scope, "grpo, Prefix-RFT: of which tokens it is a share",
                 Valid{.values = "step | sample"}),
      FPDIST_KEY(clip_prefix, "grpo, Prefix-RFT: clip demonstrations' ratios as all others"),
      FPDIST_KEY(max_completion_length, "dr_grpo: divides by samples times this", Valid{.values = ">= 1"})};
  return kKeys;
}

}  // namespace fpdist::loss
