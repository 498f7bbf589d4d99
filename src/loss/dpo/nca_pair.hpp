#pragma once
// loss (private): Chen et al., "Noise contrastive alignment of language models with explicit rewards" (2024), NCA for
// two answers, r = beta log-ratio: -log sigmoid(r_c) - (log sigmoid(-r_c) + log sigmoid(-r_r)) / 2.

#include <ATen/ATen.h>

#include "src/loss/dpo/pairs.hpp"

namespace fpdist::loss {

inline PairTerm nca_pair_term(const Pairs& pairs, const LossOptions& options) {
  const at::Tensor better = options.beta * pairs.chosen_ratio, worse = options.beta * pairs.rejected_ratio;
  return {-at::log_sigmoid(better) - 0.5 * at::log_sigmoid(-better) - 0.5 * at::log_sigmoid(-worse)};
}

}  // namespace fpdist::loss
