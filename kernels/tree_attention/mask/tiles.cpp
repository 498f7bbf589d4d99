#include "kernels/tree_attention/mask/tiles.hpp"

#include <algorithm>
#include <numeric>

namespace fpdist::kernels {
namespace {

/// What a tile's test needs of a block of queries, and of a block of keys.
struct QueryBlock {
  int32_t first, last;
};
struct KeyBlock {
  int32_t first, last;  ///< rows
  int32_t end_min, end_max;
  bool is_whole;  ///< no padding
};

template <typename Make>
auto blocks_of(int64_t rows, int64_t each, const Make& make) {
  std::vector<decltype(make(int64_t{}, int64_t{}))> blocks;
  for (int64_t begin = 0; begin < rows; begin += each) blocks.push_back(make(begin, std::min(begin + each, rows)));
  return blocks;
}

std::vector<QueryBlock> query_blocks(const MaskRows& rows, int64_t each) {
  return blocks_of(rows.queries, each, [&](int64_t begin, int64_t end) {
    return QueryBlock{rows.q_row[static_cast<size_t>(begin)], rows.q_row[static_cast<size_t>(end - 1)]};
  });
}

std::vector<KeyBlock> key_blocks(const MaskRows& rows, int64_t each) {
  return blocks_of(rows.keys, each, [&](int64_t begin, int64_t end) {
    const std::span keys = std::span(rows.key).subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
    const auto end_of = [](const VisibleRows& key) { return key.row + key.rows; };
    const auto [least, most] = std::ranges::minmax(keys, {}, end_of);
    return KeyBlock{keys.front().row, keys.back().row, end_of(least), end_of(most), end - begin == each};
  });
}

constexpr int32_t kHidden = -1;
/// kHidden, or whether the tile is masked.
int32_t kind_of(const QueryBlock& queries, const KeyBlock& keys) {
  if (queries.last < keys.first || queries.first >= keys.end_max) return kHidden;
  return !(keys.is_whole && queries.first >= keys.last && queries.last < keys.end_min);
}

/// kind(block, other) of all pairs.
template <typename Kind>
TileTable table_of(size_t blocks, size_t others, const Kind& kind) {
  TileTable table;
  table.offset.push_back(0);
  for (size_t block = 0; block < blocks; ++block) {
    for (size_t other = 0; other < others; ++other)
      if (const int32_t masked = kind(block, other); masked != kHidden)
        table.tile.push_back(2 * static_cast<int32_t>(other) + masked);
    table.offset.push_back(static_cast<int32_t>(table.tile.size()));
  }
  table.order.resize(blocks);
  std::iota(table.order.begin(), table.order.end(), 0);
  const auto tiles = [&](int32_t block) {
    return table.offset[static_cast<size_t>(block) + 1] - table.offset[static_cast<size_t>(block)];
  };
  std::ranges::stable_sort(table.order, std::greater(), tiles);
  return table;
}

}  // namespace

MaskRows mask_rows(std::span<const int32_t> q_row, std::span<const int32_t> k_row, std::span<const int32_t> k_end,
                   int64_t padded_to) {
  const auto padded = [&](size_t rows) {
    const auto each = static_cast<size_t>(padded_to);
    return (rows + each - 1) / each * each;
  };
  MaskRows rows{.queries = static_cast<int64_t>(q_row.size()), .keys = static_cast<int64_t>(k_row.size())};
  rows.q_row.assign(q_row.begin(), q_row.end());
  rows.q_row.resize(padded(q_row.size()), -1);
  for (size_t j = 0; j < k_row.size(); ++j) rows.key.push_back({k_row[j], k_end[j] - k_row[j]});
  rows.key.resize(padded(k_row.size()), {0, 0});
  return rows;
}

TileTable tiles_by_query(const MaskRows& rows, int64_t queries, int64_t keys) {
  const auto q = query_blocks(rows, queries);
  const auto k = key_blocks(rows, keys);
  return table_of(q.size(), k.size(), [&](size_t i, size_t j) { return kind_of(q[i], k[j]); });
}

TileTable tiles_by_key(const MaskRows& rows, int64_t queries, int64_t keys) {
  const auto q = query_blocks(rows, queries);
  const auto k = key_blocks(rows, keys);
  TileTable table = table_of(k.size(), q.size(), [&](size_t j, size_t i) { return kind_of(q[i], k[j]); });
  for (size_t block = 0; block < k.size(); ++block)
    std::reverse(table.tile.begin() + table.offset[block], table.tile.begin() + table.offset[block + 1]);
  return table;
}

}  // namespace fpdist::kernels
