#pragma once
// ops: log-probabilities over a slice of the vocabulary, for whoever splits it (tensor parallelism). Not
// differentiable: the caller owns the order. Forward every slice, merge, then give every slice's backward the merged
// lse and entropy: exact, because p = exp(logit - lse) needs the other slices only through those. R rows, H hidden, V_r
// columns of this slice (0 is fine), S scores, A the accumulation dtype. Throws ShapeError.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

#include "src/ops/main_grad.hpp"

namespace fpdist::ops {

struct PartialLogprob {
  at::Tensor logit;     ///< [S] in A: of each target, divided by the temperature; -inf for a target elsewhere
  at::Tensor lse;       ///< [R] in A: over the slice alone; -inf for an empty one
  at::Tensor entropy;   ///< [R] in A: of the slice's own distribution
  at::Tensor best;      ///< [R] in A: the largest logit
  at::Tensor argmax;    ///< [R] int64: where it is, in ids of the slice; the first of equals
  at::Tensor logits{};  ///< kept for the backward, which uses them up; undefined where nothing was
};

/// What the slices' rows have in common once they are merged.
struct MergedLogprob {
  at::Tensor logp;     ///< [S] in A
  at::Tensor lse;      ///< [R] in A
  at::Tensor entropy;  ///< [R] in A
  at::Tensor argmax;   ///< [R] int64: in ids of the whole vocabulary
};

/// hidden [R,H], weight [V_r,H]; score_row [S] int64 ascending; target [S] int64 in [0,V_r), or -1: in another slice.
/// `keeps_logits` as selected_logprob has it.
PartialLogprob partial_logprob(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& score_row,
                               const at::Tensor& target, double temperature = 1.0, bool keeps_logits = false);

/// What forward left in context.saved_data["logits"], if it did; the graph does not hold it any longer.
std::optional<at::Tensor> take_logits(torch::autograd::AutogradContext& context);

/// Slices in vocabulary order, stacked: logit [P,S], lse, entropy, best [P,R] in A and argmax [P,R] int64 in ids of the
/// whole vocabulary. lse = logsumexp_r lse_r; entropy = sum_r p_r (H_r - log p_r), p_r = exp(lse_r - lse); argmax the
/// first of the largest. The order of the slices fixes the bits.
MergedLogprob merge_logprobs(const PartialLogprob& stacked, const at::Tensor& score_row);

/// This slice's share of d_hidden [R,H] in hidden's dtype; adds dW into the main grad [V_r,H] in A where there is one.
/// grad_logp [S] and grad_entropy [R] in A, either may be undefined; the targets as in the forward.
at::Tensor partial_logprob_backward(const at::Tensor& grad_logp, const at::Tensor& grad_entropy,
                                    const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& score_row,
                                    const at::Tensor& target, const MergedLogprob& merged, double temperature,
                                    MainGrad main_grad, const std::optional<at::Tensor>& logits = std::nullopt);

}  // namespace fpdist::ops
