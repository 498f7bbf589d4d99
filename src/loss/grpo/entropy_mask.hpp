#pragma once
// loss (private): Wang et al., "Beyond the 80/20 rule" (2025): the policy term is taken of the step's tokens of largest
// entropy. The threshold is a quantile over the whole step, whatever packs it is cut into.

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "src/loss/segments.hpp"

namespace fpdist::loss {

/// Which edges count, as float: of the pack [E], and how many of the step (0-dim).
struct EntropyMask {
  at::Tensor of_pack, count;
};

/// What rounding may add to one of equal entropies: equal prefixes have such, however they are computed.
inline double entropy_rounding(const at::Tensor& entropy) {
  return 1024 * (entropy.scalar_type() == at::kDouble ? 0x1p-52 : 0x1p-23);
}

/// `share` of the step's edges, those of largest entropy; the threshold is interpolated between neighbours, and edges
/// that are on it up to rounding count.
inline EntropyMask entropy_mask(const Edges& edges, double share) {
  const at::Tensor &all = edges.step.edge, &sorted = edges.step.ascending;
  const int64_t own = edges.sample.numel();
  if (!sorted.defined() || sorted.size(0) == 0)
    return {at::zeros_like(edges.length).narrow(0, 0, 0), at::zeros({}, edges.length.options())};
  const double place = (1 - share) * static_cast<double>(sorted.size(0) - 1);
  const auto low = static_cast<int64_t>(std::floor(place));
  const int64_t high = std::min(low + 1, sorted.size(0) - 1);
  const at::Tensor quantile = at::lerp(sorted[low], sorted[high], place - std::floor(place));
  const at::Tensor threshold = quantile - entropy_rounding(all) * quantile.abs().clamp_min(1);
  const auto as_float = [&](const at::Tensor& mask) { return mask.to(edges.length.dtype()); };
  return {as_float(all.narrow(0, edges.first_edge, own).ge(threshold)), as_float(sorted.ge(threshold)).sum()};
}

}  // namespace fpdist::loss
