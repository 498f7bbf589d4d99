#pragma once
// tree_attention: exact attention over a pack of prefix trees, forward and backward, over any subset of its rows. O(T)
// memory beside its arguments and results, never a mask. Shapes, dtypes and who sees whom:
// fpdist/kernels/attention.hpp. Partial calls over disjoint key sets add up: merge the outputs (merge.hpp), then give
// every backward the merged one and add the gradients. Results of a row depend on no row outside its own path. Throws
// ShapeError.

#include "fpdist/kernels/attention.hpp"

namespace fpdist::kernels {

/// Out in A unless rounded, lse in A. The operator's schema has no place for `deterministic`: it always is.
AttentionOutput tree_attention(const AttentionInputs& in, const AttentionMask& mask, const AttentionOptions& options);

/// This key set's share of the gradients, in A unless rounded. grad_out [Tq,Hq,D] in q's dtype or A; `merged` over all
/// key sets, its out likewise, its lse in A.
AttentionGradients tree_attention_backward(const at::Tensor& grad_out, const AttentionInputs& in,
                                           const AttentionOutput& merged, const AttentionMask& mask,
                                           const AttentionOptions& options);

/// Throw ShapeError unless the arguments fit together; the same on every device, reading no element: those of either
/// call; of q, k and v alone; of backward beside those.
void check_tree_attention(const AttentionInputs& in, const AttentionMask& mask);
void check_attention_inputs(const AttentionInputs& in);
void check_tree_attention_backward(const at::Tensor& grad_out, const at::Tensor& q, const AttentionOutput& merged);

}  // namespace fpdist::kernels
