#pragma once
// tree_attention on a Hopper GPU: one launch for the forward and three for the backward, straight from row numbers and
// subtree ends. Queries and keys go in blocks; lists made once per pack (mask/tiles.hpp) say which blocks a block of
// the other side meets at all, and where elements have to be masked one by one. bfloat16, head sizes 64 and 128; sums
// in float32, in an order that the lists fix: the same bits every time; results in float32 or rounded. Part of
// libfpdist_cuda; plain C++, no torch.
//
// Backward computes the scores twice, once by blocks of keys (dK, dV, over all query heads that share them) and once by
// blocks of queries (dQ): 7 products for 5, but every result has one writer, so that nothing is added atomically.

#include <driver_types.h>

#include <cstdint>
#include <span>

#include "kernels/cuda/element.hpp"
#include "kernels/cuda/tensor_map.hpp"
#include "kernels/tree_attention/cuda/tile_sizes.hpp"
#include "kernels/tree_attention/mask/tiles.hpp"

namespace fpdist::kernels {

/// A TileTable on the device.
struct TileLists {
  const int32_t *order, *offset, *tile;
  int32_t blocks;
};

/// Rows as mask_rows gives them, padded to kPaddedRows, on the device.
struct DeviceRows {
  const int32_t* q_row;
  const VisibleRows* key;
};

/// The longest lists, the first of their order, are cut in parts that run side by side and are put together in their
/// order: where few blocks have most of the work (a long prompt's keys; a short pack's queries on few heads), a card's
/// processors would wait for them.
struct ListCut {
  int parts = 1, blocks = 0;
};
constexpr int kMostCuts = 8;
/// The cut for lists of these lengths, descending, each of which so many heads go through, on so many processors.
ListCut cut_lists(std::span<const int64_t> lengths, int64_t heads, int processors = kProcessors);

struct TreeAttentionArguments {
  HeadsTensor q, k, v;                   ///< k and v of as many rows, and of heads that divide q's
  void* out;                             ///< [Tq,Hq,D] of `result`, dense
  float* lse;                            ///< [Tq,Hq], dense
  Element element = Element::kBFloat16;  ///< of q, k and v; Hopper's kernels take no other
  Element result;                        ///< float32 or `element`
  ListCut cut{};                         ///< of by_query; the portable kernels'
  float* parts = nullptr;  ///< [cut.parts], each [rows,Hq,D] and [rows,Hq], rows = cut.blocks * kQueryBlock: scratch
  DeviceRows rows;
  TileLists by_query;  ///< kQueryBlock by kKeysOfTile
  float scale;         ///< above 0
};

struct TreeAttentionBackwardArguments {
  HeadsTensor q, k, v, grad_out;
  const void* out;                       ///< merged, of `merged`, dense
  const float* lse;                      ///< merged, dense
  float* row_sums;                       ///< [2,Hq,Tq padded]: scratch
  void *dq, *dk, *dv;                    ///< [Tq,Hq,D], [Tk,Hkv,D] twice, of `result`, dense
  Element element = Element::kBFloat16;  ///< of q, k, v and grad_out
  Element merged, result;                ///< float32 or `element`
  ListCut cut;                           ///< of by_key
  float* partial;             ///< [cut.parts,2,cut.blocks * kKeyBlock,Hkv,D]: scratch, where something is cut
  ListCut query_cut{};        ///< of by_query; the portable kernels'
  float* dq_parts = nullptr;  ///< [query_cut.parts,query_cut.blocks * kQueryBlock,Hq,D]: likewise
  DeviceRows rows;
  TileLists by_query;  ///< kQueryBlock by kKeysOfBackwardTile
  TileLists by_key;    ///< kKeyBlock by kQueriesOfTile
  float scale;         ///< above 0
};

/// Queue the kernels on `stream`; cudaErrorInvalidValue for a head size without one. Inputs must not overlap outputs.
cudaError_t launch_tree_attention(const TreeAttentionArguments& arguments, cudaStream_t stream);
cudaError_t launch_tree_attention_backward(const TreeAttentionBackwardArguments& arguments, cudaStream_t stream);

}  // namespace fpdist::kernels
