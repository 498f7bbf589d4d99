#pragma once
// tree_attention, blocked: backward. A panel's gradients stay in the nearest caches while all rows that see it come by,
// those of grouped heads too: one writer, one order. Weights come from the merged lse, so that calls over parts of the
// keys add up.

#include <cstdint>

#include "kernels/tree_attention/blocked/pack.hpp"
#include "kernels/tree_attention/blocked/product.hpp"
#include "kernels/tree_attention/blocked/tile.hpp"

namespace fpdist::kernels {

template <class I>
class Backward {
 public:
  static int64_t scratch_words(const BlockedProblem& problem) {
    return (2 * kBlockRows + kBlockRows / I::kWord) * kPanelKeys + 2 * kPanelKeys * problem.padded;
  }
  static void run(const BlockedProblem& problem, const BackwardTask& task) {
    Backward backward(problem, task);
    for (int64_t p = task.panel_begin; p < task.panel_end; ++p) backward.take_panel(p);
  }

 private:
  using V = typename I::V;
  using T = Tile<I>;
  static constexpr float kLog2e = 1.44269504f;

  Backward(const BlockedProblem& problem, const BackwardTask& task)
      : problem_(problem), task_(task), words_(Packing<I>::words(problem)) {
    Scratch<I> scratch{static_cast<uint32_t*>(task.scratch)};
    score_ = scratch.words(kBlockRows * kPanelKeys);
    slope_ = scratch.words(kBlockRows * kPanelKeys);
    slope_rows_ = I::kWord == 1 ? slope_ : scratch.words(kBlockRows * kPanelKeys / I::kWord);
    dk_ = scratch.floats(kPanelKeys * problem.padded);
    dv_ = scratch.floats(kPanelKeys * problem.padded);
  }

  void take_panel(int64_t p) {
    const int64_t rows = problem_.rows();
    for (int64_t i = 0; i < kPanelKeys * problem_.padded; i += I::kLanes)
      I::store(dk_ + i, I::zero()), I::store(dv_ + i, I::zero());
    for (int64_t begin = 0; begin < rows; begin += kBlockRows) {
      const int64_t end = begin + kBlockRows < rows ? begin + kBlockRows : rows;
      if (problem_.q_row[begin] >= problem_.panel[p].greatest_end) break;
      TileCut cut = T::cut(problem_, begin, end, p);
      if (cut.row_begin == cut.row_end) continue;
      if constexpr (I::kWord == 2) {  // a word holds two rows
        cut.is_full = cut.is_full && cut.row_begin % 2 == 0;
        cut.row_begin -= cut.row_begin % 2;
      }
      touch(begin, end);
      take_tile(p, cut);
    }
    write(p);
  }

  /// Zeros where nobody has added yet, just before somebody does: they are still in the nearest cache then.
  void touch(int64_t begin, int64_t end) {
    uint8_t& is_touched = task_.touched[begin / kBlockRows];
    if (is_touched) return;
    is_touched = 1;
    for (int64_t i = begin * problem_.padded; i < end * problem_.padded; i += I::kLanes)
      I::store(task_.dq + i, I::zero());
  }

  void take_tile(int64_t p, const TileCut& cut) {
    const int64_t n = cut.row_end - cut.row_begin, padded = problem_.padded, panel = p * words_ * kPanelKeys;
    const int64_t columns = T::columns(cut.keys);
    const PackedRows& rows = task_.rows;
    product_set<I>(n, {rows.q + cut.row_begin * words_, words_}, {task_.packed.k_across + panel, kPanelKeys}, words_,
                   {as_float(score_), kPanelKeys, nullptr}, columns);
    product_set<I>(n, {rows.grad + cut.row_begin * words_, words_}, {task_.packed.v_across + panel, kPanelKeys}, words_,
                   {as_float(slope_), kPanelKeys, nullptr}, columns);
    weigh_rows(p, cut);
    constexpr int64_t kRow = kPanelKeys / I::kWord;
    product<I, Into::kAdd>(n, Left<Walk::kAlong>{slope_rows_, kRow}, {task_.packed.k_along + panel, padded},
                           (cut.keys + I::kWord - 1) / I::kWord, {task_.dq + cut.row_begin * padded, padded, nullptr},
                           padded);
    const int64_t row_words = (n + I::kWord - 1) / I::kWord, pair = cut.row_begin / I::kWord * padded;
    product<I, Into::kAdd>(cut.keys, Left<Walk::kDown>{score_, 1}, {rows.grad_along + pair, padded}, row_words,
                           {dv_, padded, nullptr}, padded);
    product<I, Into::kAdd>(cut.keys, Left<Walk::kDown>{slope_, 1}, {rows.q_along + pair, padded}, row_words,
                           {dk_, padded, nullptr}, padded);
  }

  /// Scores become weights and what came of grad . v the slope of the scores: floats row by row, or words of two rows
  /// (over rows that are used up already) and, of the slopes, words of two keys.
  void weigh_rows(int64_t p, const TileCut& cut) {
    const int64_t n = cut.row_end - cut.row_begin;
    const int vectors = static_cast<int>(T::columns(cut.keys) / I::kLanes);
    V weight[2][T::kVectors], slope[2][T::kVectors];
    for (int64_t r = 0; r < n; ++r) {
      const int64_t half = r % I::kWord;
      if (cut.is_full)
        weigh<true>(p, cut.row_begin + r, r, vectors, weight[half], slope[half]);
      else
        weigh<false>(p, cut.row_begin + r, r, vectors, weight[half], slope[half]);
      if constexpr (I::kWord == 2) {
#pragma GCC unroll 4
        for (int j = 0; j < T::kVectors; j += 2)
          I::store_pair(slope_rows_ + (r * T::kVectors + j) * (I::kLanes / 2), slope[half][j], slope[half][j + 1]);
        if (r + 1 == n && half == 0)
          for (int j = 0; j < T::kVectors; ++j) weight[1][j] = slope[1][j] = I::zero();
        if (half == 1 || r + 1 == n) store_pair_of_rows(r / 2, weight, slope);
      }
    }
  }

  template <bool kFull>
  void weigh(int64_t p, int64_t row, int64_t r, int vectors, V (&weight)[T::kVectors], V (&slope)[T::kVectors]) {
    const float to_log2 = problem_.scale * kLog2e, lse2 = task_.rows.lse2[row], delta = task_.rows.delta[row];
    float *scores = as_float(score_) + r * kPanelKeys, *slopes = as_float(slope_) + r * kPanelKeys;
#pragma GCC unroll 8
    for (int j = 0; j < T::kVectors; ++j) {
      weight[j] = slope[j] = I::zero();
      if (!kFull && j >= vectors) continue;
      const V score = I::load(scores + I::kLanes * j), towards = I::load(slopes + I::kLanes * j);
      weight[j] = T::exp2(I::multiply_subtract(score, I::all(to_log2), I::all(lse2)));
      if constexpr (!kFull) weight[j] = T::where_seen(problem_, row, p, j, weight[j], I::zero());
      slope[j] = I::multiply(I::multiply(weight[j], I::all(problem_.scale)), I::subtract(towards, I::all(delta)));
      if constexpr (I::kWord == 1) {
        I::store(scores + I::kLanes * j, weight[j]);
        I::store(slopes + I::kLanes * j, slope[j]);
      }
    }
  }

  void store_pair_of_rows(int64_t pair, const V (&weight)[2][T::kVectors], const V (&slope)[2][T::kVectors]) {
    if constexpr (I::kWord == 2) {
#pragma GCC unroll 8
      for (int j = 0; j < T::kVectors; ++j) {
        I::store_interleaved(score_ + pair * kPanelKeys + I::kLanes * j, weight[0][j], weight[1][j]);
        I::store_interleaved(slope_ + pair * kPanelKeys + I::kLanes * j, slope[0][j], slope[1][j]);
      }
    }
  }

  void write(int64_t p) {
    const int64_t size = problem_.head_size;
    for (int64_t j = 0; j < kPanelKeys && p * kPanelKeys + j < problem_.keys; ++j) {
      const int64_t to = ((p * kPanelKeys + j) * problem_.key_heads + task_.head) * size;
      Packing<I>::store_row(dk_ + j * problem_.padded, 1.0f, size, task_.rounds, task_.dk, to);
      Packing<I>::store_row(dv_ + j * problem_.padded, 1.0f, size, task_.rounds, task_.dv, to);
    }
  }

  static float* as_float(uint32_t* words) { return reinterpret_cast<float*>(words); }

  const BlockedProblem& problem_;
  const BackwardTask& task_;
  const int64_t words_;
  uint32_t *score_, *slope_, *slope_rows_;
  float *dk_, *dv_;
};

}  // namespace fpdist::kernels
