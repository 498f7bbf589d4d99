#pragma once
// tree_attention on a GPU: which calls of a variable-length attention a pack needs. Pieces of the mask (pieces.hpp) go
// together in one call as long as no query and no key is in two of them. A whole pack of trees then takes one causal
// call over its node segments and, per level of the trees, one full call whose keys are that level's node segments and
// whose queries are their strict descendants. Queries and keys may be any rows: ring rounds, resident slices.

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/tree_attention/mask/pieces.hpp"

namespace fpdist::kernels {

/// Pieces of one kind, ascending and disjoint in their queries and in their keys: so the call's results have one writer
/// an element. Never empty, and no piece is.
struct Level {
  bool is_causal;
  std::vector<Piece> piece;
};

/// The levels in the order in which they are merged: causal first (if there is any). Together they cover the mask once.
/// Where runs of keys and queries of one node interleave (a ring round between two ranks that own every other chunk),
/// they are halved again and again, which takes a call for every halving. Throws ShapeError as find_pieces does.
std::vector<Level> find_levels(std::span<const int32_t> q_row, std::span<const int32_t> k_row,
                               std::span<const int32_t> row_end);

}  // namespace fpdist::kernels
