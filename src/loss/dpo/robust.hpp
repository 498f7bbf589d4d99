#pragma once
// loss (private): Chowdhury et al., "Provably robust DPO" (2024), equation 13, for labels that are flipped with
// probability e: (-(1 - e) log sigmoid(beta m) + e log sigmoid(-beta m)) / (1 - 2 e), without bias for any such e.

#include <ATen/ATen.h>

#include "src/loss/dpo/pairs.hpp"

namespace fpdist::loss {

inline PairTerm robust_term(const Pairs& pairs, const LossOptions& options) {
  const double flipped = options.label_smoothing;
  const at::Tensor margin = options.beta * pairs.score_margin();
  return {(-(1 - flipped) * at::log_sigmoid(margin) + flipped * at::log_sigmoid(-margin)) / (1 - 2 * flipped)};
}

}  // namespace fpdist::loss
