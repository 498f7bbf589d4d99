#pragma once
// loss (private): D'Oosterlinck et al., "Anchored preference optimization" (2024), r = beta log-ratio. apo_zero,
// equation 7, for answers better than the model's own: 1 - sigmoid(r_c) + sigmoid(r_r). apo_down, equation 8, for worse
// ones: sigmoid(r_c) + 1 - sigmoid(r_c - r_r).

#include <ATen/ATen.h>

#include "src/loss/dpo/pairs.hpp"

namespace fpdist::loss {

inline PairTerm apo_zero_term(const Pairs& pairs, const LossOptions& options) {
  return {1 - at::sigmoid(options.beta * pairs.chosen_ratio) + at::sigmoid(options.beta * pairs.rejected_ratio)};
}

inline PairTerm apo_down_term(const Pairs& pairs, const LossOptions& options) {
  return {at::sigmoid(options.beta * pairs.chosen_ratio) + 1 -
          at::sigmoid(options.beta * (pairs.chosen_ratio - pairs.rejected_ratio))};
}

}  // namespace fpdist::loss
