#pragma once
// loss: losses over edges. A loss is one plain differentiable function: the edges of one pack in, a scalar and metric
// sums out. The scalar is the pack's share of the step's loss: shares of all packs and ranks simply add up, because
// every normaliser is global and known from the plan. What the system knows of a loss beside it is its LossSpec.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "fpdist/core/method.hpp"
#include "fpdist/data/sample.hpp"
#include "fpdist/loss/options.hpp"
#include "fpdist/loss/spec.hpp"
#include "fpdist/plan/step_plan.hpp"

namespace fpdist::loss {

/// What a loss whose terms depend on the whole step's samples takes down of them ahead of the step (see make_look): of
/// one pack, and put together of the step.
struct View {
  at::Tensor sample = {};     ///< [B, k], of the step [S, k]: values of each sample, in the order of the step's groups
  at::Tensor edge = {};       ///< [E]: a value of each edge, of the step pack after pack (see Edges::first_edge)
  at::Tensor ascending = {};  ///< of the step alone: `edge` sorted, which is the same however it is cut into packs
};

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
  // Where Needs asks for them:
  at::Tensor log_sum_sq = {};  ///< [E] log of the sum of squared probabilities at the source row, detached
  at::Tensor base_kl = {};     ///< [E] KL(reference || policy) over the vocabulary at the source row, differentiable
  at::Tensor position = {};    ///< [E] int64, the target's place in its completion; below 0 in the prompt
  at::Tensor wanted = {};      ///< [B] 1 for an answer that is wanted, 0 for one that is not
  at::Tensor in_prefix = {};   ///< [E] 1 where the target is a demonstration's (data::Sample::prefix_length), else 0
  at::Tensor prefix_advantage = {};  ///< [B] of these
  View step = {};                    ///< of the whole step
  at::Tensor place = {};             ///< [B] int64, the samples' rows in step.sample
  int64_t first_edge = 0;            ///< place in step.edge of the pack's first edge
  // Preference packs hold pairs: sample 2i is chosen, 2i+1 rejected.
};

/// How a metric's contributions combine over packs and ranks.
enum class Combine { kMean, kSum, kMin, kMax };

/// For kMean the step's value is sum(value) / sum(weight); weight is ignored otherwise. 0-dim, detached, anywhere.
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

/// One pack's part of the step's view. Takes no gradient.
using Look = std::function<View(const Edges&)>;

/// The loss of `method` with `options` checked and defaults filled in; throws ConfigError naming loss.<key>.
LossFunction make_loss(Method method, const LossOptions& options);

/// What that loss takes down of every pack of the step, or of its mismatched samples (Needs::step), ahead of all terms;
/// empty where it couples nothing. Throws as make_loss does.
Look make_look(Method method, const LossOptions& options);

/// The step's prompts, each with the completion of the sample before it (the first with the last one's): what KTO's KL
/// is estimated on. One group a sample, in their order; cut behind `max_length` tokens.
std::vector<data::Group> mismatched(std::span<const data::Group> groups, int64_t max_length);

/// Fills `advantage` of every sample of a step that has a reward and no advantage of its own, as TRL 1.16: (reward -
/// mean of its group) / (std + 1e-4), std with n - 1 over the group or over the whole step by scale_rewards; a group of
/// one gets 0. With options.prefix_advantage as prefix_advantages.hpp says, prefix_advantage too. A sample with neither
/// stays without (counts as 0). Hand in a copy where the samples outlive the step:
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
