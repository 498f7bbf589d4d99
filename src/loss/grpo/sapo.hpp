#pragma once
// loss (private): Gao et al., "Soft adaptive policy optimization" (2025), equation 5: A (4 / t) sigmoid(t (r - 1)), a
// soft clip whose temperature t is one for positive advantages and another for the rest.

#include <ATen/ATen.h>

#include "src/loss/grpo/ratios.hpp"
#include "src/loss/segments.hpp"

namespace fpdist::loss {

inline Gain sapo_gain(const Ratios& ratios, const Edges& edges, const LossOptions& options) {
  const at::Tensor positive = ratios.advantage.gt(0).to(ratios.ratio.dtype());
  const at::Tensor temperature =
      options.sapo_temperature_pos * positive + options.sapo_temperature_neg * (1 - positive);
  const at::Tensor gain = at::sigmoid(temperature * (ratios.ratio - 1)) * 4 / temperature * ratios.advantage;
  return {ratios.by_sequence ? at_edges(gain, edges) : gain};
}

}  // namespace fpdist::loss
