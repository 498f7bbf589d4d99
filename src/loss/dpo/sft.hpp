#pragma once
// loss (private): the mean negative log-likelihood of the step's chosen tokens, beside a preference term: Pang et al.,
// "Iterative reasoning preference optimization" (2024), equation 1, and Wang et al., "Mixed preference optimization"
// (2024).

#include <ATen/ATen.h>

#include "src/loss/dpo/pairs.hpp"

namespace fpdist::loss {

inline PairTerm chosen_nll_term(const Pairs& pairs, const LossOptions&) { return {pairs.chosen_nll}; }

}  // namespace fpdist::loss
