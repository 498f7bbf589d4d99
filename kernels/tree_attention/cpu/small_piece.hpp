#pragma once
// tree_attention on the CPU: pieces too small to be worth a library call (a call and its merge cost as much as a
// thousand query-key pairs). One key head at a time, plain loops, results folded straight into the totals.

#include <cstdint>

#include "kernels/tree_attention/mask/pieces.hpp"

namespace fpdist::kernels {

/// A piece is small up to this many query-key pairs; so it never has more keys either.
inline constexpr int64_t kSmallPiecePairs = 2048;
inline bool is_small(const Piece& piece) {
  return (piece.q_end - piece.q_begin) * (piece.k_end - piece.k_begin) <= kSmallPiecePairs;
}

/// One key head's view of a problem: element strides of a row and of a head within the group; D elements contiguous.
template <typename A>
struct HeadView {
  const A *q, *k, *v;           ///< inputs at this head
  int64_t q_stride, kv_stride;  ///< between rows
  A* out;                       ///< forward: running output; backward: merged output (read only)
  A* lse;                       ///< running or merged log-sum-exp
  int64_t out_stride, lse_stride;
  const A* grad;  ///< backward only, from here on
  int64_t grad_stride;
  A *dq, *dk, *dv;  ///< q's gradient has out's strides
  int64_t dkv_stride;
  int64_t group, head_size;
  A scale;
};

/// Folds the piece's keys into out and lse.
void small_piece_forward(const HeadView<float>& head, const Piece& piece);
void small_piece_forward(const HeadView<double>& head, const Piece& piece);

/// Adds the piece's share to dq, dk and dv.
void small_piece_backward(const HeadView<float>& head, const Piece& piece);
void small_piece_backward(const HeadView<double>& head, const Piece& piece);

}  // namespace fpdist::kernels
