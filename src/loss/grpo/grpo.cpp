#include "src/loss/grpo/grpo.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "src/loss/grpo/cispo.hpp"
#include "src/loss/grpo/clipped.hpp"
#include "src/loss/grpo/entropy_mask.hpp"
#include "src/loss/grpo/prefix_rft.hpp"
#include "src/loss/grpo/sapo.hpp"
#include "src/loss/segments.hpp"

namespace fpdist::loss {
namespace {

void check_edges(const Edges& edges, const LossOptions& options) {
  const int64_t count = edges.sample.numel();
  require(edges.logp, count, "logp", "grpo");
  require(edges.entropy, count, "entropy", "grpo");
  require(edges.advantage, edges.length.size(0), "advantage", "grpo");
  if (edges.old_logp.defined()) require(edges.old_logp, count, "old_logp", "grpo");
  if (options.beta != 0) require(edges.ref_logp, count, "ref_logp", "grpo");
  if (options.prefix_advantage.empty()) return;
  require(edges.in_prefix, count, "in_prefix", "grpo");
  require(edges.prefix_advantage, edges.length.size(0), "prefix_advantage", "grpo");
}

/// What an edge's policy term is, and its size for pack.verify_steps.
struct Terms {
  at::Tensor per_edge, size;
  /// [E,2]
  at::Tensor both() const { return at::stack({per_edge, size}, 1); }
};

at::Tensor old_logp_of(const Edges& edges) { return edges.old_logp.defined() ? edges.old_logp : edges.logp.detach(); }

/// By token, or by sequence the exp of the mean log-ratio over the sample's edges.
Ratios ratios_of(const Edges& edges, const LossOptions& options) {
  const at::Tensor log_ratio = edges.logp - old_logp_of(edges);
  if (options.importance_sampling_level != "sequence") return {log_ratio.exp(), at_edges(edges.advantage, edges)};
  return {(segment_sum(log_ratio, edges) / length_or_one(edges)).exp(), edges.advantage, /*by_sequence=*/true};
}

GainFunction& gain_of(const LossOptions& options) {
  const std::string& type = options.loss_type.front();
  if (!options.prefix_advantage.empty()) return prefix_gain;
  return type == "cispo" ? cispo_gain : type == "sapo" ? sapo_gain : clipped_gain;
}

/// [E] 1 where the edge's sample counts. DeepSeek-V3.2's report (2025), equation 9: samples of negative advantage that
/// the policy has left too far behind do not.
at::Tensor off_policy_mask(const Edges& edges, double threshold) {
  const at::Tensor behind = segment_sum(old_logp_of(edges) - edges.logp.detach(), edges) / length_or_one(edges);
  const at::Tensor counts = edges.advantage.ge(0).logical_or(behind.le(threshold));
  return at_edges(counts.to(edges.length.dtype()), edges);
}

/// The reference's part: k3 of Schulman, "Approximating KL divergence" (2020).
void add_kl(const Edges& edges, const Ratios& ratios, const LossOptions& options, Terms& terms,
            std::map<std::string, Metric>& metrics) {
  const at::Tensor log_ratio = edges.ref_logp - edges.logp;
  at::Tensor kl = log_ratio.exp() - log_ratio - 1;
  at::Tensor size = log_ratio.exp() + log_ratio.abs() + 1;
  if (options.use_bias_correction_kl) {
    const at::Tensor correction = ratios.by_sequence ? at_edges(ratios.ratio, edges) : ratios.ratio;
    kl = kl * correction, size = size * correction;
  }
  terms.per_edge = terms.per_edge + options.beta * kl;
  terms.size = terms.size + options.beta * size.detach();
  metrics["kl"] = mean_of(kl);
}

/// [2] terms [E,2] divided by what the terms of one edge are, summed over the pack's edges.
at::Tensor normalise(const at::Tensor& terms, const Edges& edges, const plan::StepTotals& totals,
                     const LossOptions& options) {
  const std::string& type = options.loss_type.front();
  const auto samples = static_cast<double>(std::max<int64_t>(totals.samples, 1));
  if (type == "grpo" || type == "sapo")
    return (segment_sum(terms, edges) / length_or_one(edges).unsqueeze(1)).sum(0) / samples;
  if (type == "dr_grpo") return terms.sum(0) / (samples * static_cast<double>(options.max_completion_length));
  if (type == "luspo") return terms.sum(0) / samples;
  return terms.sum(0) / static_cast<double>(std::max<int64_t>(totals.edges, 1));
}

/// Subtracts the mean entropy of the edges that count from the loss.
void add_entropy_bonus(const Edges& edges, const plan::StepTotals& totals, const EntropyMask* mask,
                       const LossOptions& options, LossOutput& output) {
  const at::Tensor count =
      mask ? mask->count.clamp_min(1)
           : at::full({}, static_cast<double>(std::max<int64_t>(totals.edges, 1)), edges.length.options());
  at::Tensor bonus = mask ? edges.entropy * mask->of_pack : edges.entropy;
  bonus = options.entropy_coef * weighted(bonus, edges.weight, "weight", "grpo") / count;
  output.metrics["policy_loss"] = {Combine::kSum, output.loss.detach(), {}};
  output.metrics["entropy_coef"] = mean_of(at::full_like(edges.logp.detach(), options.entropy_coef));
  output.loss = output.loss - bonus.sum();
  output.size = output.size + bonus.detach().abs().sum();
}

}  // namespace

LossOutput grpo_loss(const Edges& edges, const plan::StepTotals& totals, const LossOptions& options) {
  check_edges(edges, options);
  const Ratios ratios = ratios_of(edges, options);
  // By sequence a term counts once for each of its tokens, so that every normaliser means the same at both levels.
  Gain gain = gain_of(options)(ratios, edges, options);
  at::Tensor policy = -gain.per_edge;
  if (options.off_policy_mask_threshold >= 0)
    policy = policy * off_policy_mask(edges, options.off_policy_mask_threshold);
  std::optional<EntropyMask> mask;
  if (options.top_entropy_quantile < 1) {
    mask = entropy_mask(edges, options.top_entropy_quantile);
    policy = policy * mask->of_pack;
  }
  Terms terms{policy, policy.detach().abs()};
  LossOutput output{.loss = {}, .metrics = std::move(gain.metrics)};
  if (options.beta != 0) add_kl(edges, ratios, options, terms, output.metrics);
  output.metrics["entropy"] = mean_of(edges.entropy);
  at::Tensor both = terms.both();
  if (edges.weight.defined()) {
    require(edges.weight, both.size(0), "weight", "grpo");
    both = both * edges.weight.unsqueeze(1);
  }
  const at::Tensor sums = normalise(both, edges, totals, options);
  output.loss = sums[0], output.size = sums[1].detach();
  if (options.entropy_coef != 0) add_entropy_bonus(edges, totals, mask ? &*mask : nullptr, options, output);
  return output;
}

View grpo_look(const Edges& edges, const LossOptions& options) {
  return {.edge = options.prefix_advantage.empty() ? edges.entropy.detach() : prefix_entropy(edges)};
}

}  // namespace fpdist::loss
