#pragma once
// Tests: the pieces of tree attention against the mask they stand for.

#include <gtest/gtest.h>

#include <vector>

#include "kernels/tree_attention/mask/pieces.hpp"

namespace fpdist::test {

/// Every visible (query, key) lies in exactly one piece, no other pair in any, no piece is empty, causal ones are
/// square.
inline void expect_pieces_cover_mask(const std::vector<int32_t>& q_row, const std::vector<int32_t>& k_row,
                                     const std::vector<int32_t>& k_end) {
  std::vector<int> covered(q_row.size() * k_row.size(), 0);
  for (const auto& piece : kernels::find_pieces(q_row, k_row, k_end)) {
    EXPECT_TRUE(piece.q_begin < piece.q_end && piece.k_begin < piece.k_end);
    EXPECT_TRUE(!piece.is_causal || piece.q_end - piece.q_begin == piece.k_end - piece.k_begin);
    for (int64_t i = piece.q_begin; i < piece.q_end; ++i)
      for (int64_t j = piece.k_begin; j < piece.k_end; ++j)
        if (!piece.is_causal || j - piece.k_begin <= i - piece.q_begin)
          ++covered[static_cast<size_t>(i) * k_row.size() + static_cast<size_t>(j)];
  }
  for (size_t i = 0; i < q_row.size(); ++i)
    for (size_t j = 0; j < k_row.size(); ++j)
      EXPECT_EQ(covered[i * k_row.size() + j], k_row[j] <= q_row[i] && q_row[i] < k_end[j] ? 1 : 0)
          << "query " << i << " key " << j;
}

}  // namespace fpdist::test
