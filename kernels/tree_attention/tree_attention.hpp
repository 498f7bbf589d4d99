#pragma once
// tree_attention: exact attention over a pack of prefix trees, forward and backward, over any subset of its rows.
// Key j is visible to query i iff k_row[j] <= q_row[i] < k_end[j] (FlashMask's causal + lower-start column form).
// Shapes: q [Tq,Hq,D], k and v [Tk,Hkv,D], Hq a multiple of Hkv; float32, bfloat16 or float64. q_row [Tq], k_row [Tk]
// strictly ascending, k_end [Tk] above its row: int32, always on the CPU, whatever the device of q: the host plans
// the call from them. A = accumulation dtype (float64 for float64, else float32).
// Partial calls over disjoint key sets add up: merge the outputs by their lse, then give every backward the merged out
// and lse and add the gradients. Results of a row depend on no row outside its own path. Throws ShapeError.

#include <ATen/core/Tensor.h>

#include <tuple>

namespace fpdist::kernels {

/// (out [Tq,Hq,D] in A, lse [Tq,Hq] in A: natural log, -inf and out 0 for a row without keys).
std::tuple<at::Tensor, at::Tensor> tree_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                  const at::Tensor& q_row, const at::Tensor& k_row,
                                                  const at::Tensor& k_end, double scale);

/// (dq, dk, dv) in A, of this key set's share. grad_out [Tq,Hq,D] in q's dtype or A; out and lse as merged, in A.
std::tuple<at::Tensor, at::Tensor, at::Tensor> tree_attention_backward(const at::Tensor& grad_out, const at::Tensor& q,
                                                                       const at::Tensor& k, const at::Tensor& v,
                                                                       const at::Tensor& out, const at::Tensor& lse,
                                                                       const at::Tensor& q_row, const at::Tensor& k_row,
                                                                       const at::Tensor& k_end, double scale);

/// Throws ShapeError unless the arguments of either call fit together.
void check_tree_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& q_row,
                          const at::Tensor& k_row, const at::Tensor& k_end);

/// Those of q, k and v alone.
void check_attention_tensors(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v);
void check_tree_attention_backward(const at::Tensor& grad_out, const at::Tensor& q, const at::Tensor& out,
                                   const at::Tensor& lse);

}  // namespace fpdist::kernels
