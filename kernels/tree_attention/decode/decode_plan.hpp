#pragma once
// tree_attention of decoding steps on a GPU: which block of threads reads which keys. Every piece of the mask
// (mask/pieces.hpp) is a rectangle, so many queries against a run of keys that all of them see; its keys are cut into
// chunks and its queries into tiles, so that a few pieces fill a card as well as many. Each query then has parts, one a
// chunk, that are put together in the order of their keys. Plain C++, no torch.
//
// A function of the pieces and the shape alone, never of the card or of the moment: the same call gives the same bits.
// But what else is decoded together decides where a run is cut, so a row's bits are not its own alone; batch invariance
// is promised on the CPU only (src/ops/batch_invariant.hpp).

#include <compare>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cuda/element.hpp"
#include "kernels/tree_attention/cuda/tile_sizes.hpp"
#include "kernels/tree_attention/mask/pieces.hpp"

namespace fpdist::kernels {

/// Rows, a query's head each, that a block of threads takes at most.
constexpr int64_t decode_rows_of_tile(Element element) { return element == Element::kFloat32 ? 16 : 64; }

/// What of q, k and v a plan depends on.
struct DecodeShape {
  int64_t group = 1;         ///< query heads a head of keys
  int64_t key_heads = 1;     ///< heads of keys
  int64_t rows_of_tile = 0;  ///< decode_rows_of_tile; `group` or more
  auto operator<=>(const DecodeShape&) const = default;
};

/// Queries [query, query + queries) against keys [key, key + keys): positions. Their parts lie at slots `slot`, slot
/// + 1, ... of the scratch.
struct DecodeItem {
  int32_t query, queries, key, keys, slot;
  bool operator==(const DecodeItem&) const = default;
};

struct DecodePlan {
  std::vector<DecodeItem> item;     ///< most keys first, else in the order of the pieces
  std::vector<int32_t> part_begin;  ///< [queries + 1] query i has part[part_begin[i]] to part[part_begin[i + 1]]
  std::vector<int32_t> part;        ///< slots, ascending by their keys
  int64_t slots = 0;
};

constexpr int64_t kKeysOfDecodeStep = 64;  ///< chunks are whole numbers of so many keys, but for a piece's last one
constexpr int64_t kLeastDecodeSteps = 2;   ///< of a chunk: what a part costs is little beside it then
constexpr int64_t kBlocksOfProcessor = 3;  ///< that run side by side

/// Of pieces none of which is causal, of so many queries.
DecodePlan plan_decoding(std::span<const Piece> pieces, int64_t queries, const DecodeShape& shape,
                         int processors = kProcessors);

}  // namespace fpdist::kernels
