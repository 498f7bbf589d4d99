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

/// Pieces in ascending order of their keys. Rows strictly ascending, row_end[j] > k_row[j]; throws ShapeError
/// otherwise.
std::vector<Piece> find_pieces(std::span<const int32_t> q_row, std::span<const int32_t> k_row,
                               std::span<const int32_t> row_end);

/// Throws ShapeError unless rows ascend strictly and each key's end is above its row.
void check_rows(std::span<const int32_t> q_row, std::span<const int32_t> k_row, std::span<const int32_t> row_end);

}  // namespace fpdist::kernels
