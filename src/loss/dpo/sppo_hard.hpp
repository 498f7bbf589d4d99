#pragma once
// loss (private): Wu et al., "Self-play preference optimization" (2024), equation 4.7 with a probability of winning of
// 1 and 0: (ratio_c - 1 / (2 beta))^2 + (ratio_r + 1 / (2 beta))^2. beta is 1 / eta.

#include <ATen/ATen.h>

#include "src/loss/dpo/pairs.hpp"

namespace fpdist::loss {

inline PairTerm sppo_hard_term(const Pairs& pairs, const LossOptions& options) {
  const double wanted = 0.5 / options.beta;
  return {(pairs.chosen_ratio - wanted).square() + (pairs.rejected_ratio + wanted).square()};
}

}  // namespace fpdist::loss
