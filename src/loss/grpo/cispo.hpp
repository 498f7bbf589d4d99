#pragma once
// loss (private): Chen et al., "MiniMax-M1" (2025), equation 4: A log p, weighted by the ratio without gradient, which
// is capped at epsilon_high (not at 1 + epsilon_high, as TRL has it after "The art of scaling RL compute", 2025).

#include <ATen/ATen.h>

#include "src/loss/grpo/ratios.hpp"
#include "src/loss/segments.hpp"

namespace fpdist::loss {

inline Gain cispo_gain(const Ratios& ratios, const Edges& edges, const LossOptions& options) {
  const at::Tensor ratio = ratios.ratio.detach();
  const at::Tensor weight = ratio.clamp_max(options.epsilon_high) * ratios.advantage;
  const at::Tensor held = ratio.gt(options.epsilon_high).logical_and(ratios.advantage.gt(0));
  return {.per_edge = (ratios.by_sequence ? at_edges(weight, edges) : weight) * edges.logp,
          .metrics = {{"cispo_clip_ratio", mean_of(held.to(ratio.dtype()))}}};
}

}  // namespace fpdist::loss
