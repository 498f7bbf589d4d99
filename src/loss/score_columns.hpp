#pragma once
// loss: what a language-model head says of scores, by name, on its way from the ranks that computed it to a loss.

#include <ATen/core/Tensor.h>

#include "fpdist/loss/loss.hpp"
#include "fpdist/loss/spec.hpp"

namespace fpdist::loss {

/// One value a score and column; undefined columns are not there. Columns mean what the same fields of Edges mean.
struct ScoreColumns {
  at::Tensor logp, entropy, correct, mean_logit, log_sum_sq, ref_logp, base_kl;  ///< [S]
};

/// [S, columns]: those that are there, side by side in one tensor that can travel; detached.
at::Tensor stack(const ScoreColumns& scores);

/// The columns of stack() again: logp and what `needs` asks of the head; needs.reference says whether the reference ran
/// beside the policy. Throws ShapeError when there are more or fewer.
ScoreColumns unstack(const at::Tensor& stacked, const Needs& needs);

/// Fills the edges' columns of the same names: every edge has the values of its score, `edge_score` [E].
/// Differentiable. Columns that are not there leave the edges' as they were.
void give_to_edges(const ScoreColumns& scores, const at::Tensor& edge_score, Edges& edges);

}  // namespace fpdist::loss
