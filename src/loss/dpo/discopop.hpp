#pragma once
// loss (private): Lu et al., "Discovering preference optimization algorithms with and for large language models"
// (2024), equation 5, log-ratio modulated: (1 - s) (-log sigmoid(beta m)) + s exp(-beta m), s = sigmoid(beta m / tau).

#include <ATen/ATen.h>

#include "src/loss/dpo/pairs.hpp"

namespace fpdist::loss {

inline PairTerm discopop_term(const Pairs& pairs, const LossOptions& options) {
  const at::Tensor margin = options.beta * pairs.score_margin();
  const at::Tensor share = at::sigmoid(margin / options.discopop_tau);
  return {-at::log_sigmoid(margin) * (1 - share) + at::exp(-margin) * share};
}

}  // namespace fpdist::loss
