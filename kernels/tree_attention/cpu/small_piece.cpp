#include "kernels/tree_attention/cpu/small_piece.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/common/vector_math.hpp"

// Inlined into each clone, or the clones would all call one plain x86-64 body.
#define FPDIST_INLINE __attribute__((always_inline)) inline

namespace fpdist::kernels {
namespace {

template <typename A>
FPDIST_INLINE A dot(const A* a, const A* b, int64_t size) {
  A lane[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes)
    for (int l = 0; l < kLanes; ++l) lane[l] += a[i + l] * b[i + l];
  for (; i < size; ++i) lane[0] += a[i] * b[i];
  A sum = 0;
  for (int l = 0; l < kLanes; ++l) sum += lane[l];
  return sum;
}

template <typename A>
FPDIST_INLINE void add_scaled(A* to, A factor, const A* from, int64_t size) {
  for (int64_t i = 0; i < size; ++i) to[i] += factor * from[i];
}

FPDIST_INLINE int64_t keys_seen(const Piece& piece, int64_t query) {
  return piece.is_causal ? query - piece.q_begin + 1 : piece.k_end - piece.k_begin;
}

template <typename A>
FPDIST_INLINE void forward(const HeadView<A>& head, const Piece& piece) {
  A score[kSmallPiecePairs];
  const int64_t size = head.head_size;
  for (int64_t query = piece.q_begin; query < piece.q_end; ++query) {
    const int64_t keys = keys_seen(piece, query);
    for (int64_t member = 0; member < head.group; ++member) {
      const A* q = head.q + query * head.q_stride + member * size;
      A* out = head.out + query * head.out_stride + member * size;
      A& lse = head.lse[query * head.lse_stride + member];
      A highest = lse;
      for (int64_t j = 0; j < keys; ++j) {
        score[j] = head.scale * dot(q, head.k + (piece.k_begin + j) * head.kv_stride, size);
        highest = std::max(highest, score[j]);
      }
      A sum = 0;
      for (int64_t j = 0; j < keys; ++j) score[j] = vector_exp(score[j] - highest);
      for (int64_t j = 0; j < keys; ++j) sum += score[j];
      const A before = std::exp(lse - highest), inverse = A(1) / (before + sum);
      for (int64_t i = 0; i < size; ++i) out[i] *= before * inverse;
      for (int64_t j = 0; j < keys; ++j)
        add_scaled(out, score[j] * inverse, head.v + (piece.k_begin + j) * head.kv_stride, size);
      lse = highest + std::log(before + sum);
    }
  }
}

template <typename A>
FPDIST_INLINE void backward(const HeadView<A>& head, const Piece& piece) {
  const int64_t size = head.head_size;
  for (int64_t query = piece.q_begin; query < piece.q_end; ++query) {
    const int64_t keys = keys_seen(piece, query);
    for (int64_t member = 0; member < head.group; ++member) {
      const A* q = head.q + query * head.q_stride + member * size;
      const A* grad = head.grad + query * head.grad_stride + member * size;
      const A delta = dot(grad, head.out + query * head.out_stride + member * size, size);
      const A lse = head.lse[query * head.lse_stride + member];
      A* dq = head.dq + query * head.out_stride + member * size;
      for (int64_t j = piece.k_begin; j < piece.k_begin + keys; ++j) {
        const A *k = head.k + j * head.kv_stride, *v = head.v + j * head.kv_stride;
        const A p = vector_exp(head.scale * dot(q, k, size) - lse);
        const A ds = head.scale * p * (dot(grad, v, size) - delta);
        add_scaled(dq, ds, k, size);
        add_scaled(head.dk + j * head.dkv_stride, ds, q, size);
        add_scaled(head.dv + j * head.dkv_stride, p, grad, size);
      }
    }
  }
}

}  // namespace

FPDIST_CPU_CLONES void small_piece_forward(const HeadView<float>& head, const Piece& piece) { forward(head, piece); }
FPDIST_CPU_CLONES void small_piece_forward(const HeadView<double>& head, const Piece& piece) { forward(head, piece); }
FPDIST_CPU_CLONES void small_piece_backward(const HeadView<float>& head, const Piece& piece) { backward(head, piece); }
FPDIST_CPU_CLONES void small_piece_backward(const HeadView<double>& head, const Piece& piece) { backward(head, piece); }

}  // namespace fpdist::kernels
