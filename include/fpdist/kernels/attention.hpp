#pragma once
// kernels: what attention over a pack of prefix trees is asked for, and what it gives. These structs go unchanged
// through kernels, ops and parallel. Tq queries and Tk keys, Hq and Hkv heads of each, D head size; A the accumulation
// dtype (float64 for float64, else float32).

#include <ATen/core/Tensor.h>

namespace fpdist::kernels {

struct AttentionInputs {
  at::Tensor q;     ///< [Tq,Hq,D] float32, bfloat16, float64 or float16; Hq a multiple of Hkv
  at::Tensor k, v;  ///< [Tk,Hkv,D] in q's dtype, where q is
};

/// Who sees whom: key j is visible to query i iff k_row[j] <= q_row[i] < k_end[j] (FlashMask's causal + lower-start
/// column form), over any subset of the pack's rows. int32 on the CPU, whatever the device of q: the host lays the
/// calls out from them and nothing waits for the device. What else may hide a key (a window, which counts depths)
/// belongs here too.
struct AttentionMask {
  at::Tensor q_row;  ///< [Tq] row numbers in the pack, strictly ascending
  at::Tensor k_row;  ///< [Tk] likewise
  at::Tensor k_end;  ///< [Tk] subtree ends, exclusive: each above its row
};

/// The same for every row.
struct AttentionOptions {
  double scale = 1;           ///< of q k^T, before the softmax
  bool deterministic = true;  ///< only what gives the same bits twice; without it a GPU from sm_90 on may take cuDNN
  bool rounded = false;       ///< out and gradients in q's dtype instead of A, for who adds nothing to them
};

struct AttentionOutput {
  at::Tensor out;  ///< [Tq,Hq,D] in A unless rounded, 0 for a query without keys
  at::Tensor lse;  ///< [Tq,Hq] in A: natural log of the sum of the query's weights, -inf without keys
};

struct AttentionGradients {
  at::Tensor q, k, v;  ///< of the inputs' shapes
};

}  // namespace fpdist::kernels
