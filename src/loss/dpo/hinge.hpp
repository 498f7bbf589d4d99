#pragma once
// loss (private): Zhao et al., "SLiC-HF" (2023), its hinge on the margin m of the log-ratios as Liu et al.,
// "Statistical rejection sampling improves preference optimization" (2024), equation 9: max(0, 1 - beta m).

#include <ATen/ATen.h>

#include "src/loss/dpo/pairs.hpp"

namespace fpdist::loss {

inline PairTerm hinge_term(const Pairs& pairs, const LossOptions& options) {
  return {at::relu(1 - options.beta * pairs.score_margin())};
}

}  // namespace fpdist::loss
