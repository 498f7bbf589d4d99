#pragma once
#include <cstdint>
#include <span>
#include <string>

namespace fpdist {
struct Key;
}
namespace fpdist::loss {

/// TRL 1.16's names and defaults.
struct LossOptions {
  /// Name of one of the method's losses, see specs(). Empty: the method's first (TRL's default), or its only one.
  std::string loss_type = "";
  /// DPO: strength of the reference; GRPO: weight of the k3 KL (0: no reference model). Unset (-1): 0.1 for dpo, 0 for
  /// grpo.
  double beta = -1.0;
  /// DPO: compute reference log-probs of the whole data set once before the first step, then drop the reference model.
  bool precompute_ref_log_probs = false;
  /// Reward model: weight of mean((r_chosen + r_rejected)^2); 0 is off.
  double center_rewards_coefficient = 0.0;
  /// GRPO: lower clip range, and the upper one (-1: the same).
  double epsilon = 0.2;
  double epsilon_high = -1.0;
  /// GRPO: token | sequence (GSPO).
  std::string importance_sampling_level = "token";
  /// GRPO: group | batch | none.
  std::string scale_rewards = "group";
  /// GRPO: multiply the KL estimate by the importance ratio.
  bool use_bias_correction_kl = true;
  /// GRPO: completions that were cut (data::Sample::truncated) count in their group's advantages and not in the loss.
  bool mask_truncated_completions = false;
  /// dr_grpo: divides by samples * max_completion_length.
  int64_t max_completion_length = 512;

  static std::span<const Key> keys();
};

}  // namespace fpdist::loss
