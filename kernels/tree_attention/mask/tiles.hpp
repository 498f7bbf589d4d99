#pragma once
// tree_attention: which tiles of a mask a kernel has to visit. Queries and keys are cut into blocks of so many rows; a
// tile is a block of each. Nothing visible: not listed; everything visible: listed; else listed as masked. The test is
// by the rows and ends at a tile's edges: exact where all keys come before all queries, as everywhere off the diagonal
// of a whole pack, and at worst a tile too many or one masked in vain. Plain C++, no torch.

#include <cstdint>
#include <span>
#include <vector>

namespace fpdist::kernels {

/// Visible: key.row <= query's row < key.row + key.rows.
struct VisibleRows {
  int32_t row, rows;
};

/// Rows padded to whole blocks, with queries that see nothing and keys that nobody sees.
struct MaskRows {
  int64_t queries = 0, keys = 0;  ///< without the padding
  std::vector<int32_t> q_row{};
  std::vector<VisibleRows> key{};
};
/// Rows ascend strictly, ends are above their rows.
MaskRows mask_rows(std::span<const int32_t> q_row, std::span<const int32_t> k_row, std::span<const int32_t> k_end,
                   int64_t padded_to);

/// Per block of one side, the blocks of the other that it meets: of keys ascending, of queries descending. Blocks of
/// queries see keys from their tree's first on, and keys are seen until their subtree's last: so blocks that run at the
/// same time begin with the same tiles, which come from memory once.
struct TileTable {
  std::vector<int32_t> order;   ///< blocks, most tiles first, else ascending: what runs longest begins first
  std::vector<int32_t> offset;  ///< block b has tile[offset[b]] to tile[offset[b + 1]]
  std::vector<int32_t> tile;    ///< 2 * the other side's block + 1 where it is masked
};
/// Blocks of so many queries and keys.
TileTable tiles_by_query(const MaskRows& rows, int64_t queries, int64_t keys);
TileTable tiles_by_key(const MaskRows& rows, int64_t queries, int64_t keys);

}  // namespace fpdist::kernels
