#pragma once
// loss: losses over edges. A loss is one plain differentiable function: the edges of one pack in, a scalar and metric
// sums out. The scalar is the pack's share of the step's loss: shares of all packs and ranks simply add up, because
// every normaliser is global and known from the plan. What the system knows of a loss beside it is its LossSpec.

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <span>
#include <string>

#include "fpdist/core/method.hpp"
#include "fpdist/data/sample.hpp"
#include "fpdist/loss/options.hpp"
#include "fpdist/loss/spec.hpp"
#include "fpdist/plan/step_plan.hpp"

namespace fpdist::loss {

/// The edges of one pack, by sample, then index. Float tensors have the accumulation dtype (float32 or float64); index
/// tensors are int64. E edges, B samples; both may be 0: a rank without packs calls the loss on an empty pack and so
/// contributes zeros under the same metric names. Weights multiply terms and leave normalisers and metrics alone.
struct Edges {
  at::Tensor logp;              ///< [E] policy log-probs, differentiable (undefined for reward models)
  at::Tensor entropy;           ///< [E] of the source row's distribution, detached
  at::Tensor correct;           ///< [E] 1 where the target is the likeliest token, else 0
  at::Tensor mean_logit;        ///< [E] mean logit over the vocabulary at the source row, detached
  at::Tensor ref_logp;          ///< [E] reference log-probs, or undefined
  at::Tensor old_logp;          ///< [E] sampling policy's log-probs, or undefined: the detached logp stands in
  at::Tensor sample;            ///< [E] index of the edge's sample in the pack
  at::Tensor length;            ///< [B] edges of each sample, as float
  at::Tensor score;             ///< [B] reward model's scores, differentiable (undefined otherwise)
  at::Tensor advantage;         ///< [B] (GRPO; zeros otherwise)
  at::Tensor margin;            ///< [B/2] reward margins, one a pair; undefined when no row of the data set has one
  at::Tensor weight = {};       ///< [E] what an edge's term is multiplied by; undefined where the pack's are all 1
  at::Tensor pair_weight = {};  ///< [B/2] the same of a pair's term
  // Preference packs hold pairs: sample 2i is chosen, 2i+1 rejected.
};

/// How a metric's contributions combine over packs and ranks.
enum class Combine { kMean, kSum, kMin, kMax };

/// For kMean the step's value is sum(value) / sum(weight); weight is ignored otherwise. 0-dim tensors, detached.
/// An empty pack contributes value 0 and weight 0 (kMean, kSum), +inf (kMin) or -inf (kMax).
struct Metric {
  Combine combine = Combine::kMean;
  at::Tensor value, weight;
};

struct LossOutput {
  at::Tensor loss;                        ///< 0-dim, differentiable: this pack's share of the step's loss
  std::map<std::string, Metric> metrics;  ///< TRL's names; the same keys whatever the pack holds
  /// 0-dim: the sum of its terms' sizes where these have both signs, so that a loss of nearly 0 is not held against
  /// itself (pack.verify_steps). Undefined: the loss's own size.
  at::Tensor size = {};
};

using LossFunction = std::function<LossOutput(const Edges&, const plan::StepTotals&)>;

/// The loss of `method` with `options` checked and defaults filled in; throws ConfigError naming loss.<key>.
LossFunction make_loss(Method method, const LossOptions& options);

/// Fills `advantage` of every sample of a step that has a reward and no advantage of its own, as TRL 1.16: (reward -
/// mean of its group) / (std + 1e-4), std with n - 1 over the group or over the whole step by scale_rewards; a group of
/// one gets 0. A sample with neither stays without (counts as 0). Hand in a copy where the samples outlive the step:
/// with scale_rewards batch an advantage belongs to the step. Throws DataError on a reward that is not finite. Returns
/// reward, reward_std and frac_reward_zero_std of the step's rewards; empty when no sample has one.
std::map<std::string, double> fill_advantages(std::span<data::Group> groups, const LossOptions& options);

/// TRL's completions/*: mean, smallest and largest length of a step's completions in supervised tokens, the share that
/// was cut (clipped_ratio), and the lengths of those that were not (*_terminated_length; 0 where all were cut). Empty
/// without samples.
std::map<std::string, double> completion_metrics(std::span<const data::Group> groups);

/// Takes every supervised token from samples that were cut, as TRL's mask_truncated_completions: they stay in their
/// group and among the step's samples. Behind fill_advantages and completion_metrics, which count them.
void mask_truncated(std::span<data::Group> groups);

}  // namespace fpdist::loss
