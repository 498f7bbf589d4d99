#pragma once
// loss (private): Rafailov et al., "Direct preference optimization" (2023), equation 7: -log sigmoid(beta m), where m
// is the margin of the log-ratios (of the scores, with an f-divergence).

#include <ATen/ATen.h>

#include "src/loss/dpo/pairs.hpp"

namespace fpdist::loss {

inline PairTerm sigmoid_term(const Pairs& pairs, const LossOptions& options) {
  return {-at::log_sigmoid(options.beta * pairs.score_margin())};
}

}  // namespace fpdist::loss
