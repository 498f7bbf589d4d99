#include "kernels/tree_attention/mask/attention_tiles.hpp"

#include <ATen/ATen.h>

#include <span>

#include "fpdist/core/error.hpp"
#include "kernels/tree_attention/cuda/tile_sizes.hpp"
#include "kernels/tree_attention/mask/tiles.hpp"
#include "kernels/tree_attention/mask/upload.hpp"

namespace fpdist::kernels {
namespace {

void add(UploadArena& arena, const TileTable& table) {
  arena.add(table.order), arena.add(table.offset), arena.add(table.tile);
}

std::span<const int32_t> rows_of(const at::Tensor& rows) {
  return {rows.const_data_ptr<int32_t>(), static_cast<size_t>(rows.numel())};
}

/// Of the lists, descending.
std::vector<int64_t> lengths_of(const TileTable& table) {
  std::vector<int64_t> lengths;
  for (const int32_t block : table.order) {
    const auto at = static_cast<size_t>(block);
    lengths.push_back(table.offset[at + 1] - table.offset[at]);
  }
  return lengths;
}

}  // namespace

std::vector<at::Tensor> AttentionTiles::flat() const {
  std::vector<at::Tensor> all{q_row, key};
  for (const Lists* const lists : {&by_query, &by_query_backward, &by_key})
    for (const at::Tensor* const part : {&lists->order, &lists->offset, &lists->tile}) all.push_back(*part);
  return all;
}

AttentionTiles AttentionTiles::of(at::TensorList flat, int64_t capability) {
  check(flat.size() == 11, "tree_attention: ", flat.size(), " tensors of tiles, 11 are expected");
  const auto lists = [&](size_t at) { return Lists{flat[at], flat[at + 1], flat[at + 2]}; };
  return {.capability = capability,
          .q_row = flat[0],
          .key = flat[1],
          .by_query = lists(2),
          .by_query_backward = lists(5),
          .by_key = lists(8),
          .lengths_by_query = {},
          .lengths_by_key = {}};
}

AttentionTiles make_tiles(const AttentionMask& mask, at::Device device, int64_t capability, int processors) {
  const at::Tensor q_row = mask.q_row.contiguous(), k_row = mask.k_row.contiguous(), k_end = mask.k_end.contiguous();
  const MaskRows rows = mask_rows(rows_of(q_row), rows_of(k_row), rows_of(k_end), kPaddedRows);
  UploadArena arena;
  arena.add(rows.q_row);
  static_assert(sizeof(VisibleRows) == 2 * sizeof(int32_t));
  arena.add({reinterpret_cast<const int32_t*>(rows.key.data()), 2 * rows.key.size()});
  add(arena, tiles_by_query(rows, kQueryBlock, kKeysOfTile));
  const TileTable by_query = tiles_by_query(rows, kQueryBlock, kKeysOfBackwardTile);
  const TileTable by_key = tiles_by_key(rows, kQueriesOfTile, kKeyBlock);
  add(arena, by_query), add(arena, by_key);
  AttentionTiles tiles = AttentionTiles::of(arena.on(device), capability);
  tiles.lengths_by_query = lengths_of(by_query), tiles.lengths_by_key = lengths_of(by_key);
  tiles.processors = processors;
  return tiles;
}

}  // namespace fpdist::kernels
