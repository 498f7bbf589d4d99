#pragma once
// ops: checked, differentiable tensor operations over the kernels (and over ATen where ATen is as good).
// Legend: T rows of a pack, H hidden, F intermediate, V vocabulary, Hq/Hkv query/key heads, D head size, S scores, R
// rows that reach the head. Every function throws ShapeError on a wrong shape, dtype or device; none communicates.

#include <ATen/core/Tensor.h>

#include <tuple>

#include "fpdist/ops/attention_calls.hpp"
#include "fpdist/ops/parameter.hpp"

namespace fpdist::ops {

/// y [T,out] = x [T,in] W^T (+ b) (+ residual [T,out] in x's dtype, added by the product itself: one pass and one
/// rounding less than an addition after it). dW and db are added into the parameters' main grads (skipped where
/// main_grad is undefined); the graph keeps x, not the residual.
at::Tensor linear(const at::Tensor& x, const Parameter& weight, const Parameter* bias = nullptr,
                  const at::Tensor& residual = {});

/// A product of rank r beside a linear: scale * (x A^T) B^T; A [r,in], B [out,r].
struct LowRankPair {
  const Parameter &a, &b;
  double scale = 1;
};
/// Which elements of each row the low-rank product sees: by the row's key, so that rows of one key lose the same ones.
/// What stays is multiplied by 1 / (1 - p); see kernels/keyed_dropout.
struct RowDropout {
  at::Tensor key;            ///< [T] int64
  int64_t stream = 0;        ///< tells the masks of equal keys apart: of linears, of steps
  double p = 0;              ///< 0: every element is seen, and there need be no key
  int64_t first_column = 0;  ///< of x in the whole row, where x is a slice of its columns
};

/// x [T,in] without what `dropout` drops; differentiable.
at::Tensor dropped(const at::Tensor& x, const RowDropout& dropout);

/// linear() with a frozen weight and bias, plus the pair's product, computed in A's and B's dtype (x's, or what it adds
/// up in), whose gradients go to the main grads of A and B
/// (as linear's do; skipped where a main grad is undefined). The pair sees dropped(x). The graph keeps x and x A^T.
/// Source: Hu et al., "LoRA" (2021).
at::Tensor adapted_linear(const at::Tensor& x, const Parameter& weight, const LowRankPair& pair,
                          const Parameter* bias = nullptr, const at::Tensor& residual = {},
                          const RowDropout& dropout = {});

/// z [T,out] with each column times m / norm, (+ b) (+ residual): DoRA's scaling of a linear's product (Liu et al.,
/// 2024). `norm` [out] counts as a constant. m's gradient goes to its main grad; the graph keeps z.
at::Tensor scaled_columns(const at::Tensor& z, const Parameter& magnitude, const at::Tensor& norm,
                          const Parameter* bias = nullptr, const at::Tensor& residual = {});

/// [out] sums of squares along the rows of W + scale B A, in the accumulation dtype and without that matrix.
/// `weight_squares` [out]: those of W.
at::Tensor row_squares(const at::Tensor& weight_squares, const Parameter& weight, const LowRankPair& pair);

/// rows [T,H] of `weight` [V,H] for token [T] int64; the gradient is index-added into the main grad in row order.
at::Tensor embedding(const at::Tensor& token, const Parameter& weight);

/// Root-mean-square norm over the last dim, computed in float32 (float64 for float64) as Transformers does:
/// weight * cast(x / sqrt(mean(x^2) + eps)). The weight's gradient is added into its main grad; where that is undefined
/// it arrives in value.grad().
at::Tensor rms_norm(const at::Tensor& x, const Parameter& weight, double eps);

/// silu(gate) * up, both [T,F].
at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up);

/// Rotates the halves of each head: x [T,heads,D], cos and sin [T,D/2] in the accumulation dtype (Llama's convention).
at::Tensor rotary(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin);

/// Attention over a pack, out in q's dtype: shapes, dtypes and who sees whom in fpdist/kernels/attention.hpp. O(T)
/// memory beside q, k, v and out. Differentiable in q, k, v (through out). `calls`: prepare_attention's for this mask,
/// or null (then deterministic, whatever the options say).
AttentionOutput tree_attention(const AttentionInputs& in, const AttentionMask& mask, const AttentionOptions& options,
                               const AttentionCallsPtr& calls = nullptr);

struct SelectedLogprob {
  at::Tensor logp;     ///< [S] accumulation dtype, differentiable
  at::Tensor entropy;  ///< [R] of each row's distribution, differentiable
  at::Tensor argmax;   ///< [R] int64, the likeliest token
};
/// Log-probabilities of chosen tokens: hidden [R,H], weight [V,H], score_row [S] int64 in [0,R) ascending, target [S]
/// int64 in [0,V). Logits exist only in chunks, in the accumulation dtype; backward recomputes them; dW goes to the
/// main grad. logp[s] = logit[score_row[s], target[s]] - logsumexp(logit[score_row[s], :]), logits divided by
/// `temperature`. `keeps_logits`: a GPU keeps the last chunk's until the backward, which should come next.
SelectedLogprob selected_logprob(const at::Tensor& hidden, const Parameter& weight, const at::Tensor& score_row,
                                 const at::Tensor& target, double temperature = 1.0, bool keeps_logits = false);

}  // namespace fpdist::ops
