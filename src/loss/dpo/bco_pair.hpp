#pragma once
// loss (private): Jung et al., "Binary classifier optimization for large language model alignment" (2024), without the
// running mean of rewards that the paper subtracts, as TRL 1.16 has it for pairs: -log sigmoid(r_c) - log
// sigmoid(-r_r), r = beta log-ratio.

#include <ATen/ATen.h>

#include "src/loss/dpo/pairs.hpp"

namespace fpdist::loss {

inline PairTerm bco_pair_term(const Pairs& pairs, const LossOptions& options) {
  return {-at::log_sigmoid(options.beta * pairs.chosen_ratio) - at::log_sigmoid(-options.beta * pairs.rejected_ratio)};
}

}  // namespace fpdist::loss
