#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace fpdist {
struct Key;
}
namespace fpdist::loss {

/// TRL 1.16's names and defaults. A number that TRL leaves out with None is -1 here.
struct LossOptions {
  /// Names of the method's losses, see specs(). Empty: the method's first (TRL's default), or its only one. DPO adds
  /// several up.
  std::vector<std::string> loss_type = {};
  /// DPO: what each of several losses is multiplied by. Empty: 1.
  std::vector<double> loss_weights = {};
  /// Strength of the reference (dpo, kto), of the odds (orpo), of the margin (cpo); GRPO: weight of the k3 KL (0: no
  /// reference model). Unset (-1): 0 for grpo, 0.1 for the others.
  double beta = -1.0;
  /// DPO: compute reference log-probs of the whole data set once before the first step, then drop the reference model.
  bool precompute_ref_log_probs = false;
  /// DPO robust, exo_pair, aot, aot_unpaired; CPO sigmoid, simpo: how likely a pair is the wrong way round.
  double label_smoothing = 0.0;
  /// DPO: reverse_kl | forward_kl | js_divergence | alpha_divergence.
  std::string f_divergence_type = "reverse_kl";
  /// DPO: alpha of alpha_divergence.
  double f_alpha_divergence_coef = 0.5;
  /// DPO: weight of an answer's log-probs behind the shorter answer's length, 0 to 1 (-1: 1).
  double ld_alpha = -1.0;
  /// DPO: pairs weigh what the policy's own probability of them says (WPO).
  bool use_weighting = false;
  /// DPO discopop: temperature of the blend.
  double discopop_tau = 0.05;
  /// CPO: weight of the chosen answers' mean negative log-likelihood.
  double cpo_alpha = 1.0;
  /// CPO simpo: the margin that is wanted, over beta; comparative: the margin.
  double simpo_gamma = 0.5;
  /// CPO comparative: weight of the mean over the answers' tokens of KL(reference || policy) over the vocabulary.
  double kl_weight = 0.0;
  /// CPO: alpha of AlphaPO's rewards (0: log-probs).
  double alpha = 0.0;
  /// KTO: weights of wanted and of unwanted answers.
  double desirable_weight = 1.0;
  double undesirable_weight = 1.0;
  /// Reward model: weight of mean((r_chosen + r_rejected)^2); 0 is off.
  double center_rewards_coefficient = 0.0;
  /// GRPO: lower clip range, and the upper one (-1: the same). cispo: epsilon_high is the cap of the ratio itself.
  double epsilon = 0.2;
  double epsilon_high = -1.0;
  /// GRPO: cap of the unclipped ratio, above 1 + epsilon_high (-1: none).
  double delta = -1.0;
  /// GRPO sapo: temperatures of samples with positive advantages, and of the others.
  double sapo_temperature_pos = 1.0;
  double sapo_temperature_neg = 1.05;
  /// GRPO: token | sequence (GSPO).
  std::string importance_sampling_level = "token";
  /// GRPO: group | batch | none.
  std::string scale_rewards = "group";
  /// GRPO: multiply the KL estimate by the importance ratio.
  bool use_bias_correction_kl = true;
  /// GRPO: completions that were cut (data::Sample::truncated) count in their group's advantages and not in the loss.
  bool mask_truncated_completions = false;
  /// GRPO: the share of the step's tokens, those of largest entropy, that the policy term is taken of.
  double top_entropy_quantile = 1.0;
  /// GRPO: weight of the mean entropy, which is subtracted from the loss.
  double entropy_coef = 0.0;
  /// GRPO: samples of negative advantage whose mean log(old / new) is above it do not count (-1: all do).
  double off_policy_mask_threshold = -1.0;
  /// GRPO, Prefix-RFT: dr_grpo | batch, what completions that begin with a demonstration (data::Sample::prefix_length)
  /// are worth. Empty: there are no such.
  std::string prefix_advantage = "";
  /// GRPO, Prefix-RFT: the share of demonstrations' tokens, those of largest entropy, that is learned, out of all of
  /// the step's or of each sample's (step | sample).
  double prefix_entropy_keep = 0.2;
  std::string prefix_entropy_scope = "step";
  /// GRPO, Prefix-RFT: ratios of demonstrations' tokens are clipped as all others are.
  bool clip_prefix = false;
  /// dr_grpo: divides by samples * max_completion_length; of rollouts that are made here rollout's own.
  int64_t max_completion_length = 512;

  static std::span<const Key> keys();
};

}  // namespace fpdist::loss
