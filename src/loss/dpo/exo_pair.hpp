#pragma once
// loss (private): Ji et al., "Towards efficient exact optimization of language model alignment" (2024), equation 16:
// the reverse KL of p = (sigmoid(beta m), sigmoid(-beta m)) to (1 - e, e).

#include <ATen/ATen.h>

#include <cmath>

#include "src/loss/dpo/pairs.hpp"

namespace fpdist::loss {

inline PairTerm exo_pair_term(const Pairs& pairs, const LossOptions& options) {
  const double flipped = options.label_smoothing;
  const at::Tensor margin = options.beta * pairs.score_margin();
  return {at::sigmoid(margin) * (at::log_sigmoid(margin) - std::log1p(-flipped)) +
          at::sigmoid(-margin) * (at::log_sigmoid(-margin) - std::log(flipped))};
}

}  // namespace fpdist::loss
