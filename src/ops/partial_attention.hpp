#pragma once
// ops: attention over a part of a row's keys, for whoever splits the keys (context-parallel rings, resident slices).
// Not differentiable: the caller owns the order. Forward every part, merge, then give every backward the merged output
// and add up the gradients: exact, because P = exp(score - lse) and D = sum(dO * out) need the whole row only through
// those two. Arguments as ops::tree_attention's; A is the accumulation dtype. Throws ShapeError.

#include "fpdist/ops/attention_calls.hpp"
#include "kernels/tree_attention/merge.hpp"

namespace fpdist::ops {

/// Over these keys alone, out in A; a row without any has out 0 and lse -inf.
AttentionOutput partial_attention(const AttentionInputs& in, const AttentionMask& mask, const AttentionOptions& options,
                                  const AttentionCallsPtr& calls = nullptr);

using kernels::merge_attention;

/// These keys' share of the gradients, in A; `merged` over all keys.
AttentionGradients partial_attention_backward(const at::Tensor& grad_out, const AttentionInputs& in,
                                              const AttentionOutput& merged, const AttentionMask& mask,
                                              const AttentionOptions& options,
                                              const AttentionCallsPtr& calls = nullptr);

}  // namespace fpdist::ops
