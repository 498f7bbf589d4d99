#pragma once
// loss (private): Schulman et al., "Proximal policy optimization" (2017), equation 7: min(r A, clip(r) A), with the two
// clip ranges of Yu et al., "DAPO" (2025), and the cap of r at delta of the INTELLECT-2 report (2025), which bounds
// terms of negative advantage.

#include <ATen/ATen.h>

#include "src/loss/grpo/ratios.hpp"
#include "src/loss/segments.hpp"

namespace fpdist::loss {

/// Shares of ratios that the clip holds back, over tokens or, by sequence, over samples.
inline std::map<std::string, Metric> clip_metrics(const Ratios& ratios, const at::Tensor& ratio, const Edges& edges,
                                                  const LossOptions& options) {
  const auto share = [&](const at::Tensor& held) { return held.to(ratio.dtype()); };
  const at::Tensor low = share(ratio.lt(1 - options.epsilon).logical_and(ratios.advantage.lt(0)));
  const at::Tensor high = share(ratio.gt(1 + options.epsilon_high).logical_and(ratios.advantage.gt(0)));
  const at::Tensor held = at::stack({low, high}, 1);
  const at::Tensor per_sample =
      ratios.by_sequence ? held : segment_sum(held, edges) / length_or_one(edges).unsqueeze(1);
  // By token, samples without any have no share of their own.
  const at::Tensor counts = ratios.by_sequence ? at::ones_like(edges.length, at::kBool) : edges.length.gt(0);
  return {{"clip_ratio/low_mean", mean_of(low)},
          {"clip_ratio/low_min", min_of(per_sample.select(1, 0), counts)},
          {"clip_ratio/high_mean", mean_of(high)},
          {"clip_ratio/high_max", max_of(per_sample.select(1, 1), counts)},
          {"clip_ratio/region_mean", mean_of(low + high)}};  // never both: they need opposite advantages
}

inline Gain clipped_gain(const Ratios& ratios, const Edges& edges, const LossOptions& options) {
  const at::Tensor held = ratios.ratio.clamp(1 - options.epsilon, 1 + options.epsilon_high);
  const at::Tensor ratio = options.delta < 0 ? ratios.ratio : ratios.ratio.clamp_max(options.delta);
  const at::Tensor gain = at::minimum(ratio * ratios.advantage, held * ratios.advantage);
  return {.per_edge = ratios.by_sequence ? at_edges(gain, edges) : gain,
          .metrics = clip_metrics(ratios, ratio.detach(), edges, options)};
}

}  // namespace fpdist::loss
