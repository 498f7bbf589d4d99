#pragma once
// loss (private): DPO on log-ratios a token: -log sigmoid(beta m), length-normalised as Lambert et al., "Tulu 3"
// (2024), equation 6.

#include <ATen/ATen.h>

#include "src/loss/dpo/pairs.hpp"

namespace fpdist::loss {

inline PairTerm sigmoid_norm_term(const Pairs& pairs, const LossOptions& options) {
  return {-at::log_sigmoid(options.beta * pairs.mean_score_margin())};
}

}  // namespace fpdist::loss
