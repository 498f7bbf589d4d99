#pragma once
// tree_attention on a GPU: the mask as our own kernels take it (cuda/tree_attention_kernel.hpp), on the device, made
// once per pack (or ring round) and used by all layers, forward and backward. Nothing here waits for the device.

#include <ATen/core/Tensor.h>

#include <vector>

#include "fpdist/kernels/attention.hpp"
#include "kernels/tree_attention/cuda/tile_sizes.hpp"

namespace fpdist::kernels {

/// int32, all parts of one tensor.
struct AttentionTiles {
  /// A TileTable (tiles.hpp).
  struct Lists {
    at::Tensor order, offset, tile;
  };
  int64_t capability = 0;   ///< compute capability whose kernels are to run, 10 * major + minor
  at::Tensor q_row;         ///< [Tq padded]
  at::Tensor key;           ///< [2 * Tk padded]: VisibleRows
  Lists by_query;           ///< forward, Hopper's
  Lists by_query_backward;  ///< of smaller tiles; also the portable kernels' forward
  Lists by_key;             ///< backward
  /// Of the lists of by_query_backward and of by_key, descending: what the launch has to know of them.
  std::vector<int64_t> lengths_by_query, lengths_by_key;
  int processors = kProcessors;  ///< that the longest lists are cut for: a short pack's, and those of few heads

  /// The tensors as operators take them, and back.
  std::vector<at::Tensor> flat() const;
  static AttentionTiles of(at::TensorList flat, int64_t capability);
};

/// Of a mask whose rows have been checked (find_levels does).
AttentionTiles make_tiles(const AttentionMask& mask, at::Device device, int64_t capability,
                          int processors = kProcessors);

}  // namespace fpdist::kernels
