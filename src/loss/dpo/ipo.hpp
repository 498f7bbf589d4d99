#pragma once
// loss (private): Azar et al., "A general theoretical paradigm to understand learning from human preferences" (2023),
// equation 17, on log-ratios a token: (m - 1 / (2 beta))^2. beta is the paper's tau.

#include <ATen/ATen.h>

#include "src/loss/dpo/pairs.hpp"

namespace fpdist::loss {

inline PairTerm ipo_term(const Pairs& pairs, const LossOptions& options) {
  return {(pairs.mean_score_margin() - 1 / (2 * options.beta)).square()};
}

}  // namespace fpdist::loss
