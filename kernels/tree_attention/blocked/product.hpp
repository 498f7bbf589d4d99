#pragma once
// tree_attention, blocked: the one product that all six are: C[n][columns] = sum_k a(r, k) b[k][columns], where k
// counts words. `a` is read word by word at two strides, so rows or columns of a tile alike; six rows of it and a
// register's width of b by four (AVX-512) fill the registers with sums, so that each word read is used 24 or 6 times.
// The words of b that rows come back to are kept few enough for the nearest cache.

#include <cstdint>

#include "kernels/tree_attention/blocked/blocked_kernel.hpp"

namespace fpdist::kernels {

/// What becomes of what was in C.
enum class Into { kSet, kAdd, kScaleAdd };

/// A tile whose rows are the product's, k side by side, or one whose columns are, k a panel's width apart. Of the two
/// strides one is known to the compiler.
enum class Walk { kAlong, kDown };

template <Walk kWalk>
struct Left {
  const uint32_t* a;
  int64_t stride;  ///< kAlong: between rows, in words
  __attribute__((always_inline)) int64_t row() const { return kWalk == Walk::kAlong ? stride : 1; }
  __attribute__((always_inline)) int64_t k() const { return kWalk == Walk::kAlong ? 1 : kPanelKeys; }
};
struct Right {
  const uint32_t* b;
  int64_t k;  ///< stride in words; columns are contiguous
};
struct Target {
  float* c;
  int64_t row;         ///< stride
  const float* alpha;  ///< kScaleAdd: a factor a row
};

template <class I, int R, int C, Into kInto, Walk kWalk>
__attribute__((always_inline)) inline void product_tile(const Left<kWalk>& left, const Right& right, int64_t words,
                                                        const Target& target) {
  using V = typename I::V;
  V sum[R][C];
  float* c = target.c;
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r, c += target.row)
#pragma GCC unroll 4
    for (int j = 0; j < C; ++j) {
      if constexpr (kInto == Into::kSet) sum[r][j] = I::zero();
      if constexpr (kInto != Into::kSet) sum[r][j] = I::load(c + I::kLanes * j);
      if constexpr (kInto == Into::kScaleAdd) sum[r][j] = I::multiply(sum[r][j], I::all(target.alpha[r]));
    }
  const uint32_t *a = left.a, *b = right.b;
  for (int64_t k = 0; k < words; ++k, a += left.k(), b += right.k) {
    V columns[C];
#pragma GCC unroll 4
    for (int j = 0; j < C; ++j) columns[j] = I::load(b + I::kLanes * j);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const V word = I::word(a + r * left.row());
#pragma GCC unroll 4
      for (int j = 0; j < C; ++j) sum[r][j] = I::product_add(sum[r][j], word, columns[j]);
    }
  }
  c = target.c;
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r, c += target.row)
#pragma GCC unroll 4
    for (int j = 0; j < C; ++j) I::store(c + I::kLanes * j, sum[r][j]);
}

template <class I, int C, Into kInto, Walk kWalk>
void product_columns(int64_t n, Left<kWalk> left, const Right& right, int64_t words, Target target) {
  const auto advance = [&](int64_t rows) __attribute__((always_inline)) {
    n -= rows, left.a += rows * left.row(), target.c += rows * target.row;
    if constexpr (kInto == Into::kScaleAdd) target.alpha += rows;
  };
  for (; n >= 6; advance(6)) product_tile<I, 6, C, kInto>(left, right, words, target);
  if (n >= 4) product_tile<I, 4, C, kInto>(left, right, words, target), advance(4);
  if (n >= 2) product_tile<I, 2, C, kInto>(left, right, words, target), advance(2);
  if (n == 1) product_tile<I, 1, C, kInto>(left, right, words, target);
}

/// n rows, `words` of k, `columns` a multiple of 16.
template <class I, Into kInto, Walk kWalk>
void product(int64_t n, const Left<kWalk>& left, const Right& right, int64_t words, const Target& target,
             int64_t columns) {
  constexpr int64_t kWide = I::kColumns * I::kLanes;
  int64_t at = 0;
  const auto side = [&](int64_t from) { return Right{right.b + from, right.k}; };
  const auto into = [&](int64_t from) { return Target{target.c + from, target.row, target.alpha}; };
  for (; at + kWide <= columns; at += kWide) product_columns<I, I::kColumns, kInto>(n, left, side(at), words, into(at));
  if constexpr (kWide > 16) {
    const int64_t rest = (columns - at) / I::kLanes;
    if (rest == 3) product_columns<I, 3, kInto>(n, left, side(at), words, into(at));
    if (rest == 2) product_columns<I, 2, kInto>(n, left, side(at), words, into(at));
    if (rest == 1) product_columns<I, 1, kInto>(n, left, side(at), words, into(at));
  }
}

/// product over so many words of k at a time that a panel's part stays in the nearest cache: 64 x 64 words, 16 KiB.
template <class I>
void product_set(int64_t n, const Left<Walk::kAlong>& left, const Right& right, int64_t words, const Target& target,
                 int64_t columns) {
  constexpr int64_t kWords = 64;
  product<I, Into::kSet>(n, left, right, words < kWords ? words : kWords, target, columns);
  for (int64_t k = kWords; k < words; k += kWords)
    product<I, Into::kAdd>(n, Left<Walk::kAlong>{left.a + k, left.stride}, {right.b + k * right.k, right.k},
                           words - k < kWords ? words - k : kWords, target, columns);
}

}  // namespace fpdist::kernels
