#include "src/loss/grpo.hpp"

#include <ATen/ATen.h>

#include <algorithm>

#include "src/loss/segments.hpp"

namespace fpdist::loss {
namespace {

using Metrics = std::map<std::string, Metric>;

void check_edges(const Edges& edges, const LossOptions& options) {
  const int64_t count = edges.sample.numel();
  require(edges.logp, count, "logp", "grpo");
  require(edges.entropy, count, "entropy", "grpo");
  require(edges.advantage, edges.length.size(0), "advantage", "grpo");
  if (edges.old_logp.defined()) require(edges.old_logp, count, "old_logp", "grpo");
  if (options.beta != 0) require(edges.ref_logp, count, "ref_logp", "grpo");
}

/// Importance ratios: [E] by token, [B] by sequence (exp of the mean log-ratio over the sample's edges).
at::Tensor importance_ratio(const Edges& edges, bool by_sequence) {
  const at::Tensor old_logp = edges.old_logp.defined() ? edges.old_logp : edges.logp.detach();
  const at::Tensor log_ratio = edges.logp - old_logp;
  if (!by_sequence) return log_ratio.exp();
  return (segment_sum(log_ratio, edges) / length_or_one(edges)).exp();
}

/// Shares of ratios that the clip holds back, over tokens or, by sequence, over samples.
void add_clip_metrics(const Edges& edges, const at::Tensor& ratio, const at::Tensor& advantage, bool by_sequence,
                      const LossOptions& options, Metrics& metrics) {
  const auto share = [&](const at::Tensor& held) { return held.to(ratio.dtype()); };
  const at::Tensor low = share(ratio.lt(1 - options.epsilon).logical_and(advantage.lt(0)));
  const at::Tensor high = share(ratio.gt(1 + options.epsilon_high).logical_and(advantage.gt(0)));
  const auto per_sample = [&](const at::Tensor& held) {
    return by_sequence ? held : segment_sum(held, edges) / length_or_one(edges);
  };
  // By token, samples without any have no share of their own.
  const at::Tensor counts = by_sequence ? at::ones_like(edges.length, at::kBool) : edges.length.gt(0);
  metrics["clip_ratio/low_mean"] = mean_of(low);
  metrics["clip_ratio/low_min"] = min_of(per_sample(low), counts);
  metrics["clip_ratio/high_mean"] = mean_of(high);
  metrics["clip_ratio/high_max"] = max_of(per_sample(high), counts);
  metrics["clip_ratio/region_mean"] = mean_of(low + high);  // never both: they need opposite advantages
}

/// What the terms of one edge are divided by, as a sum over the pack's edges.
at::Tensor normalise(const at::Tensor& per_edge, const Edges& edges, const plan::StepTotals& totals,
                     const LossOptions& options) {
  const auto samples = static_cast<double>(std::max<int64_t>(totals.samples, 1));
  if (options.loss_type == "grpo") return (segment_sum(per_edge, edges) / length_or_one(edges)).sum() / samples;
  if (options.loss_type == "dr_grpo")
    return per_edge.sum() / (samples * static_cast<double>(options.max_completion_length));
  return per_edge.sum() / static_cast<double>(std::max<int64_t>(totals.edges, 1));
}

}  // namespace

LossOutput grpo_loss(const Edges& edges, const plan::StepTotals& totals, const LossOptions& options) {
  check_edges(edges, options);
  const bool by_sequence = options.importance_sampling_level == "sequence";
  const at::Tensor ratio = importance_ratio(edges, by_sequence);
  const at::Tensor advantage = by_sequence ? edges.advantage : at_edges(edges.advantage, edges);
  const at::Tensor clipped = ratio.clamp(1 - options.epsilon, 1 + options.epsilon_high);
  const at::Tensor gain = at::minimum(ratio * advantage, clipped * advantage);
  // A sequence's term counts once for each of its tokens, so that every normaliser means the same at both levels.
  at::Tensor per_edge = by_sequence ? -at_edges(gain, edges) : -gain;
  at::Tensor size = per_edge.detach().abs();

  Metrics metrics;
  if (options.beta != 0) {
    const at::Tensor log_ratio = edges.ref_logp - edges.logp;
    at::Tensor kl = log_ratio.exp() - log_ratio - 1;  // k3 of Schulman, "Approximating KL divergence" (2020)
    at::Tensor kl_size = log_ratio.exp() + log_ratio.abs() + 1;
    if (options.use_bias_correction_kl) {
      const at::Tensor correction = by_sequence ? at_edges(ratio, edges) : ratio;
      kl = kl * correction, kl_size = kl_size * correction;
    }
    per_edge = per_edge + options.beta * kl;
    size = size + options.beta * kl_size.detach();
    metrics["kl"] = mean_of(kl);
  }
  per_edge = weighted(per_edge, edges.weight, "weight", "grpo");
  size = weighted(size, edges.weight, "weight", "grpo");
  metrics["entropy"] = mean_of(edges.entropy);
  add_clip_metrics(edges, ratio.detach(), advantage, by_sequence, options, metrics);
  return {.loss = normalise(per_edge, edges, totals, options),
          .metrics = std::move(metrics),
          .size = normalise(size, edges, totals, options)};
}

}  // namespace fpdist::loss
