#pragma once
// tree_attention, blocked: which part of a block of rows and a panel of keys is worth computing, and the weights in it.

#include <cstdint>

#include "kernels/tree_attention/blocked/blocked_kernel.hpp"

namespace fpdist::kernels {

/// Rows [row_begin, row_end) against the first `keys` of a panel; none where row_begin == row_end.
struct TileCut {
  int64_t row_begin = 0, row_end = 0, keys = 0;
  bool is_full = false;  ///< every row sees every key
};

template <class I>
struct Tile {
  using V = typename I::V;
  static constexpr int kVectors = static_cast<int>(kPanelKeys) / I::kLanes;

  /// Of rows [begin, end) and a panel. Rows ascend, so do the keys of a panel: rows at both ends and keys at the far
  /// one fall away.
  static TileCut cut(const BlockedProblem& problem, int64_t begin, int64_t end, int64_t panel) {
    const KeyPanel& keys = problem.panel[panel];
    const int32_t* q_row = problem.q_row;
    if (keys.first_row > q_row[end - 1] || keys.greatest_end <= q_row[begin]) return {};
    while (q_row[begin] < keys.first_row) ++begin;
    while (end > begin && q_row[end - 1] >= keys.greatest_end) --end;
    if (begin == end) return {};
    TileCut cut{.row_begin = begin, .row_end = end, .keys = kPanelKeys, .is_full = false};
    cut.is_full = keys.last_row <= q_row[begin] && keys.least_end > q_row[end - 1];
    const int32_t* k_row = problem.k_row + panel * kPanelKeys;
    while (k_row[cut.keys - 1] > q_row[end - 1]) --cut.keys;
    return cut;
  }

  /// Columns of scores that hold these keys, a multiple of what a product writes.
  static int64_t columns(int64_t keys) { return (keys + 15) / 16 * 16; }

  /// 2^t for t <= 0, 0 from -127 down; what is not a number stays so. Minimax on half a unit around 0: 1.1e-7 of the
  /// result, 2.8e-6 where it is rounded to bfloat16 next.
  static V exp2(V t) {
    t = I::greater(I::all(-127.0f), t);
    const V n = I::rounded(t), r = I::subtract(t, n);
    V p;
    if constexpr (I::kWord == 1) {
      p = I::multiply_add(I::all(0.00132647273f), r, I::all(0.00967151299f));
      p = I::multiply_add(p, r, I::all(0.0555073358f));
      p = I::multiply_add(p, r, I::all(0.240222424f));
      p = I::multiply_add(p, r, I::all(0.693147004f));
    } else {
      p = I::multiply_add(I::all(0.00958285388f), r, I::all(0.0559064262f));
      p = I::multiply_add(p, r, I::all(0.240240991f));
      p = I::multiply_add(p, r, I::all(0.693124175f));
    }
    return I::times_power(I::multiply_add(p, r, I::all(1.0f)), n);
  }

  /// x where row `row` (a number in q_row) sees key vector `vector` of the panel, else `other`.
  static V where_seen(const BlockedProblem& problem, int64_t row, int64_t panel, int vector, V x, V other) {
    const int64_t key = panel * kPanelKeys + vector * I::kLanes;
    return I::where_seen(problem.q_row[row], problem.k_row + key, problem.k_end + key, x, other);
  }
};

}  // namespace fpdist::kernels
