#pragma once
// ops: attention over a part of a row's keys, for whoever splits the keys (context-parallel rings, resident slices).
// Not differentiable: the caller owns the order. Forward every part, merge, then give every backward the merged out and
// lse and add up the gradients: exact, because P = exp(score - lse) and D = sum(dO * out) need the whole row only
// through those two. Shapes, the mask and `plan` as in ops::tree_attention; A is the accumulation dtype. Throws
// ShapeError.

#include <ATen/core/Tensor.h>

#include <tuple>

#include "fpdist/ops/attention_plan.hpp"

namespace fpdist::ops {

/// (out [Tq,Hq,D] in A, lse [Tq,Hq] in A) over these keys alone; a row without any has out 0 and lse -inf.
std::tuple<at::Tensor, at::Tensor> partial_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                     const at::Tensor& q_row, const at::Tensor& k_row,
                                                     const at::Tensor& k_end, double scale,
                                                     const AttentionPlanPtr& plan = nullptr);

/// Folds another part into (out, lse), in place. The order of the parts fixes the bits.
void merge_attention(at::Tensor& out, at::Tensor& lse, const at::Tensor& part_out, const at::Tensor& part_lse);

/// These keys' share of (dq, dk, dv), in A; out and lse as merged over all keys.
std::tuple<at::Tensor, at::Tensor, at::Tensor> partial_attention_backward(
    const at::Tensor& grad_out, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& out,
    const at::Tensor& lse, const at::Tensor& q_row, const at::Tensor& k_row, const at::Tensor& k_end, double scale,
    const AttentionPlanPtr& plan = nullptr);

}  // namespace fpdist::ops
