#pragma once
// tree_attention, blocked: from tensors to words. Keys are packed once a key head, for all rows that see them: across
// (a word of every key, then the next word) and along (key by key); rows two kilobytes apart, as heads side by side
// leave them, would share a handful of the nearest cache's places.

#include <cstdint>

#include "kernels/tree_attention/blocked/blocked_kernel.hpp"

namespace fpdist::kernels {

/// Elements of one head at one token.
struct Elements {
  const void* data;
  bool is_bfloat16;
};

/// What is left of a task's memory.
template <class I>
struct Scratch {
  uint32_t* next;
  uint32_t* words(int64_t n) {
    uint32_t* taken = next;
    next += n;
    return taken;
  }
  float* floats(int64_t n) { return reinterpret_cast<float*>(words(n)); }
};

template <class I>
struct Packing {
  using V = typename I::V;
  static constexpr int64_t kMaxWords = 256;  ///< of a row: head sizes up to 256

  static int64_t words(const BlockedProblem& problem) { return problem.padded / I::kWord; }

  static Elements at(const void* tensor, bool is_bfloat16, int64_t element) {
    return {is_bfloat16 ? static_cast<const void*>(static_cast<const uint16_t*>(tensor) + element)
                        : static_cast<const void*>(static_cast<const float*>(tensor) + element),
            is_bfloat16};
  }

  static float widened(uint16_t bits) {
    const uint32_t wide = static_cast<uint32_t>(bits) << 16;
    float x;
    __builtin_memcpy(&x, &wide, sizeof x);
    return x;
  }
  static float element(const Elements& row, int64_t d) {
    return row.is_bfloat16 ? widened(static_cast<const uint16_t*>(row.data)[d])
                           : static_cast<const float*>(row.data)[d];
  }
  static V vector(const Elements& row, int64_t d) {
    return row.is_bfloat16 ? I::load_elements(static_cast<const uint16_t*>(row.data) + d)
                           : I::load_elements(static_cast<const float*>(row.data) + d);
  }

  /// factor * from[0, size), as floats or rounded.
  static void store_row(const float* from, float factor, int64_t size, bool rounds, void* to, int64_t element_at) {
    float* floats = static_cast<float*>(to) + element_at;
    uint16_t* halves = static_cast<uint16_t*>(to) + element_at;
    for (int64_t d = 0; d < size; d += I::kLanes) {
      alignas(64) float tail[I::kLanes];
      const int64_t here = size - d < I::kLanes ? size - d : I::kLanes;
      for (int64_t i = 0; here < I::kLanes && i < I::kLanes; ++i) tail[i] = i < here ? from[d + i] : 0.0f;
      const V x = I::multiply(I::all(factor), I::load(here < I::kLanes ? tail : from + d));
      alignas(64) uint16_t rounded[I::kLanes];
      if (here == I::kLanes) {
        if (rounds)
          I::store_rounded(halves + d, x);
        else
          I::store(floats + d, x);
      } else if (rounds) {
        I::store_rounded(rounded, x);
        for (int64_t i = 0; i < here; ++i) halves[d + i] = rounded[i];
      } else {
        I::store(tail, x);
        for (int64_t i = 0; i < here; ++i) floats[d + i] = tail[i];
      }
    }
  }
  static void round(const float* from, int64_t size, uint16_t* to) { store_row(from, 1.0f, size, true, to, 0); }

  /// One row's words, zeros behind its elements.
  static void row_words(const Elements& row, int64_t size, int64_t padded, uint32_t* to) {
    alignas(64) float tail[2 * I::kLanes];
    for (int64_t d = 0; d < padded; d += I::kWord * I::kLanes) {
      const Elements here = d + I::kWord * I::kLanes <= size ? at(row.data, row.is_bfloat16, d) : Elements{tail, false};
      if (here.data == tail)
        for (int64_t i = 0; i < I::kWord * I::kLanes; ++i) tail[i] = d + i < size ? element(row, d + i) : 0.0f;
      if constexpr (I::kWord == 1) I::store(to + d, vector(here, 0));
      if constexpr (I::kWord == 2) {
        if (here.is_bfloat16)
          __builtin_memcpy(to + d / 2, here.data, 64);
        else
          I::store_pair(to + d / 2, vector(here, 0), vector(here, I::kLanes));
      }
    }
  }

  /// Pairs of rows of words, element by element; where a word is a float, rows are that already.
  static void interleave_rows(const uint32_t* even, const uint32_t* odd, int64_t padded, uint32_t* to) {
    if constexpr (I::kWord == 2)
      for (int64_t d = 0; d < padded; d += 32) I::interleave(even + d / 2, odd + d / 2, to + d);
  }

  /// A panel of one tensor; null is not wanted.
  static void panel(const BlockedProblem& problem, const void* tensor, int64_t head, int64_t panel, uint32_t* across,
                    uint32_t* along) {
    const int64_t words_here = words(problem), size = problem.head_size;
    alignas(64) uint32_t own[kPanelKeys * kMaxWords];
    uint32_t* rows = I::kWord == 1 && along ? along : own;
    for (int64_t j = 0; j < kPanelKeys; ++j) {
      const int64_t key = panel * kPanelKeys + j;
      uint32_t* to = rows + j * words_here;
      if (key < problem.keys)
        row_words(at(tensor, problem.is_bfloat16, (key * problem.key_heads + head) * size), size, problem.padded, to);
      else
        for (int64_t w = 0; w < words_here; ++w) to[w] = 0;
    }
    if (across)
      for (int64_t j = 0; j < kPanelKeys; j += I::kLanes)
        for (int64_t w = 0; w < words_here; w += I::kLanes)
          I::transpose(rows + j * words_here + w, words_here, across + w * kPanelKeys + j, kPanelKeys);
    if (I::kWord == 2 && along)
      for (int64_t j = 0; j < kPanelKeys; j += 2)
        interleave_rows(rows + j * words_here, rows + (j + 1) * words_here, problem.padded,
                        along + j / 2 * problem.padded);
  }

  static void panels(const BlockedProblem& problem, int64_t head, int64_t begin, int64_t end,
                     const PackedPanels& packed) {
    const int64_t each = words(problem) * kPanelKeys;
    const auto place_of = [&](uint32_t* all, int64_t p) { return all ? all + p * each : nullptr; };
    for (int64_t p = begin; p < end; ++p) {
      if (packed.k_across || packed.k_along)
        panel(problem, problem.k, head, p, place_of(packed.k_across, p), place_of(packed.k_along, p));
      if (packed.v_across || packed.v_along)
        panel(problem, problem.v, head, p, place_of(packed.v_across, p), place_of(packed.v_along, p));
    }
  }

  /// Sum of the products of two rows.
  static float dot(const Elements& a, const Elements& b, int64_t size) {
    V sum = I::zero();
    int64_t d = 0;
    for (; d + I::kLanes <= size; d += I::kLanes) sum = I::multiply_add(vector(a, d), vector(b, d), sum);
    float total = I::sum(sum);
    for (; d < size; ++d) total += element(a, d) * element(b, d);
    return total;
  }

  static void rows(const BlockedProblem& problem, const PackRows& task) {
    constexpr float kLog2e = 1.44269504f;
    const int64_t each = words(problem), size = problem.head_size, padded = problem.padded;
    const PackedRows& to = task.packed;
    for (int64_t row = task.row_begin; row < task.row_end; ++row) {
      const int64_t from = problem.place(task.head, row);
      const Elements grad = at(task.grad, task.grad_is_bfloat16, from);
      row_words(at(problem.q, problem.is_bfloat16, from), size, padded, to.q + row * each);
      row_words(grad, size, padded, to.grad + row * each);
      to.delta[row] = dot(grad, at(task.out, task.out_is_bfloat16, from), size);
      to.lse2[row] = kLog2e * task.lse[from / size];
    }
    if constexpr (I::kWord == 2) {
      alignas(64) const uint32_t zeros[kMaxWords] = {};
      for (int64_t row = task.row_begin; row < task.row_end; row += 2) {
        const bool has_odd = row + 1 < task.row_end;
        const auto pair = [&](const uint32_t* all, uint32_t* along) {
          interleave_rows(all + row * each, has_odd ? all + (row + 1) * each : zeros, padded, along + row / 2 * padded);
        };
        pair(to.q, to.q_along), pair(to.grad, to.grad_along);
      }
    }
  }
};

}  // namespace fpdist::kernels
