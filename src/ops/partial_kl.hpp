#pragma once
// ops: the divergence of two distributions over a vocabulary, row by row, over a slice of it for whoever splits it
// (tensor parallelism). With z a row's logits, b those of the base, both divided by the temperature, and Z their
// log-sum-exps over the whole vocabulary:
//   KL(softmax b || softmax z) = sum_v p_b(v) (b_v - z_v) - Z_b + Z_z,   d KL / d z_v = p_z(v) - p_b(v),
// exact from the sums of every slice. The base has no gradient. Logits exist in chunks of rows alone; backward makes
// them again. Not differentiable: the caller owns the order. R rows, H hidden, V_r columns of this slice (0 is fine), A
// the accumulation dtype. Throws ShapeError.

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "src/ops/main_grad.hpp"

namespace fpdist::ops {

/// Rows and heads that are compared. The base's model may be of another width.
struct KlOperands {
  at::Tensor hidden, weight;            ///< [R,H], [V_r,H] of one dtype
  at::Tensor base_hidden, base_weight;  ///< [R,H'], [V_r,H'] of one dtype
  double temperature = 1;
};

/// [R] in A each: sum_v p(v) (b_v - z_v), p being the base's distribution over the slice alone, and the slice's own
/// log-sum-exps; 0 and -inf of an empty one.
struct PartialKl {
  at::Tensor difference, lse, base_lse;
};

/// [R] in A each, of the whole vocabulary.
struct MergedKl {
  at::Tensor kl, lse, base_lse;
};

/// Of the logits of one model that are alive at a time.
inline constexpr int64_t kKlChunkBytes = int64_t{64} << 20;

PartialKl partial_kl(const KlOperands& of, int64_t chunk_bytes = kKlChunkBytes);

/// Slices in vocabulary order, stacked: [P,R]. The order fixes the bits.
MergedKl merge_kl(const PartialKl& stacked);

/// This slice's share of d_hidden [R,H] in hidden's dtype; adds dW into the main grad [V_r,H] in A where there is one.
/// grad_kl [R] in A.
at::Tensor partial_kl_backward(const at::Tensor& grad_kl, const KlOperands& of, const MergedKl& merged,
                               MainGrad main_grad, int64_t chunk_bytes = kKlChunkBytes);

}  // namespace fpdist::ops
