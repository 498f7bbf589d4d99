#pragma once
// loss (private): Huang et al., Prefix-RFT (2025): completions that begin with tokens of a demonstration. What the
// policy wrote has the clipped term of clipped.hpp, whose delta is the dual clip's c; of demonstrations only the tokens
// of largest entropy are learned, by advantages of their own and, unless clip_prefix says otherwise, ratios as they
// are. Which tokens these are is said by entropies from ahead of the step, over all of its packs, or sample by sample.

#include <ATen/ATen.h>

#include <limits>

#include "src/loss/grpo/clipped.hpp"
#include "src/loss/grpo/entropy_mask.hpp"
#include "src/loss/grpo/ratios.hpp"
#include "src/loss/segments.hpp"

namespace fpdist::loss {

/// What the look ahead of a step takes down: entropies of demonstrations' tokens, which are 0 or more, others below.
inline at::Tensor prefix_entropy(const Edges& edges) {
  const at::Tensor entropy = edges.entropy.detach().clamp_min(0);  // rounding leaves some below
  return at::where(edges.in_prefix.gt(0), entropy, at::full_like(entropy, -1));
}

/// Of `count` values that stand in `sorted`, ascending, ahead of `end`: the least one that is kept when floor((1 -
/// keep) count) are not; infinity where none is. Tensors of one shape, float64.
inline at::Tensor least_kept(const at::Tensor& sorted, const at::Tensor& end, const at::Tensor& count, double keep) {
  const at::Tensor dropped = (count * (1 - keep) + 1e-9).floor();
  const at::Tensor none = at::full_like(end, static_cast<double>(sorted.size(0)));
  const at::Tensor place = at::where(dropped.lt(count), end - count + dropped, none).to(at::kLong);
  const at::Tensor padded = at::cat({sorted, at::full({1}, std::numeric_limits<double>::infinity(), sorted.options())});
  return padded.index_select(0, place.reshape({-1})).reshape_as(place);
}

/// [E] the least entropy that is kept of the edge's sample.
inline at::Tensor least_of_samples(const at::Tensor& entropy, const Edges& edges, double keep) {
  at::Tensor order = at::argsort(entropy, /*stable=*/true);
  order = order.index_select(0, at::argsort(edges.sample.index_select(0, order), /*stable=*/true));
  const at::Tensor end = edges.length.to(at::kDouble).cumsum(0);
  const at::Tensor count = segment_sum(edges.in_prefix, edges).to(at::kDouble);
  return at_edges(least_kept(entropy.index_select(0, order), end, count, keep), edges);
}

/// The same of the step's, 0-dim.
inline at::Tensor least_of_step(const View& step, double keep) {
  const at::Tensor& sorted = step.ascending;
  const at::Tensor count = sorted.ge(0).sum().to(at::kDouble);
  return least_kept(sorted, at::full_like(count, static_cast<double>(sorted.size(0))), count, keep);
}

/// [E] 1 for tokens of demonstrations that are learned. What is on the threshold up to rounding counts.
inline at::Tensor kept_prefix(const Edges& edges, const LossOptions& options) {
  const double keep = options.prefix_entropy_keep;
  const bool is_of_step = options.prefix_entropy_scope == "step";
  const int64_t own = edges.sample.numel();
  if (keep >= 1 || own == 0 || (is_of_step && !edges.step.edge.defined())) return edges.in_prefix;
  const at::Tensor entropy = is_of_step ? edges.step.edge.narrow(0, edges.first_edge, own) : prefix_entropy(edges);
  const at::Tensor least = is_of_step ? least_of_step(edges.step, keep) : least_of_samples(entropy, edges, keep);
  return edges.in_prefix *
         entropy.ge(least - entropy_rounding(entropy) * least.abs().clamp_min(1)).to(edges.in_prefix.dtype());
}

inline Gain prefix_gain(const Ratios& ratios, const Edges& edges, const LossOptions& options) {
  const at::Tensor kept = kept_prefix(edges, options);
  const at::Tensor given = kept * at_edges(edges.prefix_advantage, edges);
  const at::Tensor written = (1 - edges.in_prefix) * ratios.advantage;
  Gain gain = clipped_gain({ratios.ratio, options.clip_prefix ? written + given : written}, edges, options);
  if (!options.clip_prefix) gain.per_edge = gain.per_edge + ratios.ratio * given;
  gain.metrics["prefix/share"] = mean_of(edges.in_prefix);
  gain.metrics["prefix/kept"] = mean_of(kept, edges.in_prefix);
  gain.metrics["prefix/entropy"] = mean_of(edges.entropy, edges.in_prefix);
  return gain;
}

}  // namespace fpdist::loss
