#pragma once
// tree_attention, blocked: forward. A block of rows takes panel after panel: scores, their greatest so far, weights,
// and the rescaling of what has been summed up rides on the product that adds to it. Source: Milakov & Gimelshein,
// "Online normalizer calculation for softmax" (2018); Dao et al., "FlashAttention" (NeurIPS 2022).

#include <cstdint>

#include "kernels/tree_attention/blocked/pack.hpp"
#include "kernels/tree_attention/blocked/product.hpp"
#include "kernels/tree_attention/blocked/tile.hpp"

namespace fpdist::kernels {

template <class I>
class Forward {
 public:
  static int64_t scratch_words(const BlockedProblem& problem) {
    const int64_t words = Packing<I>::words(problem);
    return kBlockRows * (words + kPanelKeys + kPanelKeys / I::kWord + problem.padded + kNumbers) +
           2 * words * kPanelKeys;
  }
  static void run(const BlockedProblem& problem, const ForwardTask& task) { Forward(problem, task).run(); }

 private:
  using V = typename I::V;
  using T = Tile<I>;
  static constexpr int64_t kNumbers = 2 + I::kLanes;  ///< of a row: greatest, alpha and the total, lane by lane
  static constexpr float kLog2e = 1.44269504f;
  static constexpr int64_t kAhead = 16;  ///< keys: some hundred nanoseconds of them

  Forward(const BlockedProblem& problem, const ForwardTask& task)
      : problem_(problem), task_(task), words_(Packing<I>::words(problem)), rows_(task.row_end - task.row_begin) {
    Scratch<I> scratch{static_cast<uint32_t*>(task.scratch)};
    q_ = scratch.words(kBlockRows * words_);
    score_ = scratch.floats(kBlockRows * kPanelKeys);
    weight_ = I::kWord == 1 ? reinterpret_cast<uint32_t*>(score_) : scratch.words(kBlockRows * kPanelKeys / I::kWord);
    sum_ = scratch.floats(kBlockRows * problem.padded);
    k_ = scratch.words(words_ * kPanelKeys), v_ = scratch.words(words_ * kPanelKeys);
    greatest_ = scratch.floats(kBlockRows);
    total_ = scratch.floats(kBlockRows * I::kLanes);
    alpha_ = scratch.floats(kBlockRows);
  }

  void run() {
    for (int64_t r = 0; r < rows_; ++r) {
      const Elements row =
          Packing<I>::at(problem_.q, problem_.is_bfloat16, problem_.place(task_.head, task_.row_begin + r));
      Packing<I>::row_words(row, problem_.head_size, problem_.padded, q_ + r * words_);
      greatest_[r] = -__builtin_inff();
      I::store(total_ + r * I::kLanes, I::zero());
    }
    for (int64_t i = 0; i < rows_ * problem_.padded; i += I::kLanes) I::store(sum_ + i, I::zero());
    for (int64_t i = task_.panel_begin; i < task_.panel_end; ++i) {
      const int64_t p = task_.kept ? task_.kept[i] : i;
      if (problem_.panel[p].first_row > problem_.q_row[task_.row_end - 1]) break;
      const TileCut cut = T::cut(problem_, task_.row_begin, task_.row_end, p);
      if (cut.row_begin < cut.row_end) take_panel(p, cut);
    }
    for (int64_t r = 0; r < rows_; ++r) write(r);
  }

  void take_panel(int64_t p, const TileCut& cut) {
    if (problem_.panel[p].is_direct) {
      for (int64_t row = cut.row_begin; row < cut.row_end; ++row) take_keys(p, row, cut.keys);
      return;
    }
    const uint32_t *k = k_, *v = v_;
    if (task_.packed.k_across) {
      k = task_.packed.k_across + p * words_ * kPanelKeys, v = task_.packed.v_along + p * words_ * kPanelKeys;
    } else {
      Packing<I>::panel(problem_, problem_.k, task_.head, p, k_, nullptr);
      Packing<I>::panel(problem_, problem_.v, task_.head, p, nullptr, v_);
    }
    const int64_t first = cut.row_begin - task_.row_begin, n = cut.row_end - cut.row_begin;
    const int64_t columns = T::columns(cut.keys);
    product_set<I>(n, {q_ + first * words_, words_}, {k, kPanelKeys}, words_,
                   {score_ + first * kPanelKeys, kPanelKeys, nullptr}, columns);
    for (int64_t r = first; r < first + n; ++r) {
      if (cut.is_full)
        weigh<true>(r, p, T::kVectors);
      else
        weigh<false>(r, p, static_cast<int>(columns / I::kLanes));
    }
    constexpr int64_t kRow = kPanelKeys / I::kWord;
    product<I, Into::kScaleAdd>(n, Left<Walk::kAlong>{weight_ + first * kRow, kRow}, {v, problem_.padded},
                                (cut.keys + I::kWord - 1) / I::kWord,
                                {sum_ + first * problem_.padded, problem_.padded, alpha_ + first}, problem_.padded);
  }

  /// A panel that is not packed, key by key.
  void take_keys(int64_t p, int64_t row, int64_t keys) {
    const int64_t r = row - task_.row_begin, key = p * kPanelKeys, columns = T::columns(keys);
    const int32_t here = problem_.q_row[row];
    const Elements q = Packing<I>::at(problem_.q, problem_.is_bfloat16, problem_.place(task_.head, row));
    float* score = score_ + r * kPanelKeys;
    int64_t begin = keys, end = 0;
    for (int64_t j = 0; j < columns; ++j) {
      fetch(problem_.k, key + j + kAhead), fetch(problem_.v, key + j);
      score[j] = 0.0f;
      if (problem_.k_row[key + j] > here || problem_.k_end[key + j] <= here) continue;
      score[j] = Packing<I>::dot(q, row_of(problem_.k, key + j), problem_.head_size);
      if (j < begin) begin = j;
      end = j + 1;
    }
    weigh<false>(r, p, static_cast<int>(columns / I::kLanes));
    int64_t d = 0;
    for (; d + 4 * I::kLanes <= problem_.head_size; d += 4 * I::kLanes) add_values<4>(r, key, begin, end, d);
    for (; d < problem_.head_size; d += I::kLanes) add_values<1>(r, key, begin, end, d);
  }

  /// Row r takes keys [begin, end) of the panel that begins with `key` into so many vectors of its sum from d on.
  template <int kMany>
  void add_values(int64_t r, int64_t key, int64_t begin, int64_t end, int64_t d) {
    float* const to = sum_ + r * problem_.padded + d;
    V sum[kMany];
#pragma GCC unroll 4
    for (int i = 0; i < kMany; ++i) sum[i] = I::multiply(I::all(alpha_[r]), I::load(to + I::kLanes * i));
    for (int64_t j = begin; j < end; ++j) {
      const V weight = I::all(weight_of(r, j));
      const Elements value = row_of(problem_.v, key + j);
#pragma GCC unroll 4
      for (int i = 0; i < kMany; ++i)
        sum[i] = I::multiply_add(weight, Packing<I>::vector(value, d + I::kLanes * i), sum[i]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < kMany; ++i) I::store(to + I::kLanes * i, sum[i]);
  }
  float weight_of(int64_t r, int64_t j) const {
    const uint32_t* row = weight_ + r * (kPanelKeys / I::kWord);
    if constexpr (I::kWord == 2) return Packing<I>::widened(reinterpret_cast<const uint16_t*>(row)[j]);
    return reinterpret_cast<const float*>(row)[j];
  }
  /// A head's part of a row is short and the next one's lies as many heads away: no processor fetches that ahead by
  /// itself, and waiting for it was half of a step that decodes behind many keys. Always inlined: called, it would be
  /// taken for a function that does nothing.
  __attribute__((always_inline)) void fetch(const void* keys, int64_t key) const {
    constexpr int64_t kLine = 64;
    const char* row = static_cast<const char*>(row_of(keys, key).data);
    const int64_t bytes = problem_.head_size * (problem_.is_bfloat16 ? 2 : 4);
    for (int64_t at = 0; at < bytes; at += kLine) __builtin_prefetch(row + at);
  }
  Elements row_of(const void* keys, int64_t key) const {
    const int64_t element = (key * problem_.key_heads + task_.head) * problem_.head_size;
    return Packing<I>::at(keys, problem_.is_bfloat16, element);
  }

  /// Row r's scores of panel p become weights; `vectors` of them were computed.
  template <bool kFull>
  void weigh(int64_t r, int64_t p, int vectors) {
    const float to_log2 = problem_.scale * kLog2e;
    float* row = score_ + r * kPanelKeys;
    const V unseen = I::all(-__builtin_inff());
    V x[T::kVectors], top = unseen;
#pragma GCC unroll 8
    for (int j = 0; j < T::kVectors; ++j) {
      x[j] = kFull || j < vectors ? I::load(row + I::kLanes * j) : unseen;
      if constexpr (!kFull) x[j] = T::where_seen(problem_, task_.row_begin + r, p, j, x[j], unseen);
      top = I::greater(top, x[j]);
    }
    const float old = greatest_[r], here = I::greatest(top), now = here > old ? here : old;
    const float base = now == -__builtin_inff() ? 0.0f : now * to_log2;
    V sum = I::zero();
#pragma GCC unroll 8
    for (int j = 0; j < T::kVectors; ++j) {
      const V weight = T::exp2(I::multiply_subtract(x[j], I::all(to_log2), I::all(base)));
      sum = I::add(sum, weight);
      x[j] = weight;
    }
    store_weights(r, x);
    alpha_[r] = old == now ? 1.0f : old == -__builtin_inff() ? 0.0f : __builtin_exp2f(old * to_log2 - base);
    greatest_[r] = now;
    float* total = total_ + r * I::kLanes;
    I::store(total, I::multiply_add(I::load(total), I::all(alpha_[r]), sum));
  }

  void store_weights(int64_t r, const V (&x)[T::kVectors]) {
    uint32_t* row = weight_ + r * (kPanelKeys / I::kWord);
    if constexpr (I::kWord == 1) {
#pragma GCC unroll 8
      for (int j = 0; j < T::kVectors; ++j) I::store(row + I::kLanes * j, x[j]);
    } else {
#pragma GCC unroll 2
      for (int j = 0; j < T::kVectors; j += 2) I::store_pair(row + I::kLanes / 2 * j, x[j], x[j + 1]);
    }
  }

  void write(int64_t r) {
    const int64_t to = problem_.place(task_.head, task_.row_begin + r), size = problem_.head_size;
    const float total = I::sum(I::load(total_ + r * I::kLanes)), inverse = total == 0 ? 0.0f : 1 / total;
    Packing<I>::store_row(sum_ + r * problem_.padded, inverse, size, task_.rounds, task_.out, to);
    task_.lse[to / size] = total == 0 ? -__builtin_inff() : greatest_[r] * problem_.scale + __builtin_logf(total);
  }

  const BlockedProblem& problem_;
  const ForwardTask& task_;
  const int64_t words_, rows_;
  uint32_t *q_, *weight_, *k_, *v_;
  float *score_, *sum_, *greatest_, *total_, *alpha_;
};

}  // namespace fpdist::kernels
