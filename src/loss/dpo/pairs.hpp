#pragma once
// loss (private): what the terms of preference pairs are made of, and what a term is. [P] are the pairs of a pack.

#include <ATen/core/Tensor.h>

#include "fpdist/loss/loss.hpp"

namespace fpdist::loss {

struct Pairs {
  at::Tensor chosen_logp, rejected_logp;      ///< [P] log-probs of the answers
  at::Tensor chosen_ratio, rejected_ratio;    ///< [P] their difference to the reference's
  at::Tensor chosen_score, rejected_score;    ///< [P] f'(policy / reference), see score_of(): the ratios by default
  at::Tensor chosen_length, rejected_length;  ///< [P] tokens, at least 1
  at::Tensor chosen_nll;  ///< [P] minus the chosen answer's log-prob, times pairs over chosen tokens of the step
  // Of the whole step, [N] pairs; undefined unless a term sorts them:
  at::Tensor step_logp, step_ref_logp;  ///< [N, 2] chosen and rejected
  at::Tensor step_weight;               ///< [N]
  at::Tensor place;                     ///< [P] int64, of the pack's pairs among them

  at::Tensor score_margin() const { return chosen_score - rejected_score; }
  /// Of log-probs a token.
  at::Tensor mean_score_margin() const { return chosen_score / chosen_length - rejected_score / rejected_length; }
};

/// [P] terms, whose weighted sum over the step's pairs, divided by their number, is the loss.
struct PairTerm {
  at::Tensor value;
  /// [P] of value 0, with their pairs' weights in them: gradients of terms that stand at other pairs. Or undefined.
  at::Tensor gradient = {};
};

using PairTermFunction = PairTerm(const Pairs& pairs, const LossOptions& options);

}  // namespace fpdist::loss
