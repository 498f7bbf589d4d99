#pragma once
// tree_attention: how the tree mask splits into rectangles. Keys of one node form a run [c, d) of rows with one subtree
// end e: queries with rows in [c, d) see it causally, queries in [d, e) see all of it, nobody else sees any of it. So
// the whole visible area is a list of FULL rectangles and CAUSAL squares, O(rows) of them, and no mask is ever made.

#include <cstdint>
#include <span>
#include <vector>

namespace fpdist::kernels {

/// Queries [q_begin, q_end) against keys [k_begin, k_end): positions in the given arrays, not rows. A causal piece is a
/// square: its i-th query sees its first i + 1 keys. Neither range is empty.
struct Piece {
  int64_t q_begin, q_end, k_begin, k_end;
  bool is_causal;
  bool operator==(const Piece&) const = default;
};

/// Keys [k_begin, k_end), positions, with the rows from `row` on and one subtree end.
struct KeyRun {
  int64_t k_begin, k_end;
  int32_t row, row_end;
};

/// The runs of these keys, ascending. Rows as find_pieces has them.
std::vector<KeyRun> find_runs(std::span<const int32_t> k_row, std::span<const int32_t> row_end);

/// Pieces in ascending order of their keys. Rows strictly ascending, row_end[j] > k_row[j]; throws ShapeError
/// otherwise.
std::vector<Piece> find_pieces(std::span<const int32_t> q_row, std::span<const int32_t> k_row,
                               std::span<const int32_t> row_end);
/// The same of runs that were found before: what other queries cost that see the same keys.
std::vector<Piece> find_pieces(std::span<const int32_t> q_row, std::span<const KeyRun> runs);

/// Throws ShapeError unless rows ascend strictly and each key's end is above its row.
void check_rows(std::span<const int32_t> q_row, std::span<const int32_t> k_row, std::span<const int32_t> row_end);

}  // namespace fpdist::kernels
