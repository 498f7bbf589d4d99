// Which tiles our attention kernels visit: all that hold something visible, masked wherever something is hidden, and
// hardly any others; looked at pair by pair.
#include "kernels/tree_attention/mask/tiles.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/tree_attention/cuda/tile_sizes.hpp"
#include "tests/kernels/cuda/tree_mask.hpp"

namespace fpdist::kernels {
namespace {

using test::TreeMask;

MaskRows padded(const TreeMask& mask, int64_t to) { return mask_rows(mask.q_row, mask.k_row, mask.k_end, to); }

/// Pairs of a tile that are visible, and pairs that it holds, padding of keys included.
struct TilePairs {
  int64_t visible = 0, all = 0;
};
TilePairs pairs_of(const TreeMask& mask, int64_t query, int64_t queries, int64_t key, int64_t keys) {
  TilePairs pairs;
  for (int64_t i = query; i < std::min(query + queries, static_cast<int64_t>(mask.q_row.size())); ++i)
    for (int64_t j = key; j < key + keys; ++j) {
      ++pairs.all;
      pairs.visible += j < static_cast<int64_t>(mask.k_row.size()) && mask.sees(i, j);
    }
  return pairs;
}

/// kind[block][other]: -1 not listed, else whether masked.
std::vector<std::vector<int>> kinds_of(const TileTable& table, size_t others) {
  std::vector<std::vector<int>> kinds(table.order.size(), std::vector<int>(others, -1));
  for (size_t block = 0; block < kinds.size(); ++block)
    for (int32_t i = table.offset[block]; i < table.offset[block + 1]; ++i) {
      const int32_t tile = table.tile[static_cast<size_t>(i)];
      kinds[block][static_cast<size_t>(tile / 2)] = tile % 2;
    }
  return kinds;
}

void expect_tiles(const TreeMask& mask, int64_t queries, int64_t keys) {
  const MaskRows rows = padded(mask, 16);
  const auto count = [](size_t rows, int64_t each) {
    return (rows + static_cast<size_t>(each) - 1) / static_cast<size_t>(each);
  };
  const size_t query_blocks = count(mask.q_row.size(), queries), key_blocks = count(mask.k_row.size(), keys);
  const auto by_query = kinds_of(tiles_by_query(rows, queries, keys), key_blocks);
  const auto by_key = kinds_of(tiles_by_key(rows, queries, keys), query_blocks);
  ASSERT_EQ(by_query.size(), query_blocks);
  ASSERT_EQ(by_key.size(), key_blocks);
  for (size_t i = 0; i < query_blocks; ++i)
    for (size_t j = 0; j < key_blocks; ++j) {
      const auto [visible, all] =
          pairs_of(mask, static_cast<int64_t>(i) * queries, queries, static_cast<int64_t>(j) * keys, keys);
      EXPECT_EQ(by_query[i][j], by_key[j][i]);
      EXPECT_TRUE(by_query[i][j] >= 0 || visible == 0) << i << ", " << j;
      EXPECT_TRUE(by_query[i][j] != 0 || visible == all) << i << ", " << j;
    }
}

TEST(TreeAttentionTiles, MissNothingAndMaskWhereSomethingIsHidden) {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    const TreeMask whole = test::random_forest(static_cast<int32_t>(1 + seed * 3), seed);
    const auto some = [&](uint64_t salt) {
      return [=](int32_t row) { return (static_cast<uint64_t>(row) * 2654435761u + seed + salt) % 5 < 3; };
    };
    for (const TreeMask& mask : {whole, test::part_of(whole, some(1), some(2))}) {
      expect_tiles(mask, 16, 16);
      expect_tiles(mask, 4, 16);
    }
  }
}

TEST(TreeAttentionTiles, VisitHardlyMoreThanWhatIsVisible) {
  const int64_t prefix = 4096, answers = 8, answer = 1024;
  const TreeMask mask = test::prompt_and_answers(prefix, answers, answer);
  const TileTable table = tiles_by_query(padded(mask, kPaddedRows), kQueryBlock, kKeysOfTile);
  const double area = prefix * (prefix + 1) / 2.0 + answers * (answer * (answer + 1) / 2.0 + prefix * answer);
  EXPECT_LT(static_cast<double>(table.tile.size()) * kQueryBlock * kKeysOfTile, 1.10 * area);
  const auto masked = std::ranges::count_if(table.tile, [](int32_t tile) { return tile % 2 == 1; });
  EXPECT_LT(static_cast<double>(masked), 0.08 * static_cast<double>(table.tile.size()));
  // What runs longest begins first.
  const auto tiles = [&](int32_t block) {
    return table.offset[static_cast<size_t>(block) + 1] - table.offset[static_cast<size_t>(block)];
  };
  EXPECT_TRUE(std::ranges::is_sorted(table.order, std::greater(), tiles));
}

TEST(TreeAttentionTiles, OfNoRowsAreNone) {
  const TreeMask none, queries{{0, 1}, {}, {}};
  EXPECT_TRUE(tiles_by_query(padded(none, 16), 16, 16).order.empty());
  const TileTable table = tiles_by_query(padded(queries, 16), 16, 16);
  EXPECT_EQ(table.order, std::vector<int32_t>{0});
  EXPECT_TRUE(table.tile.empty());
}

}  // namespace
}  // namespace fpdist::kernels
