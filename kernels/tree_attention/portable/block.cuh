#pragma once
// tree_attention from sm_80 on: how a block of threads is divided, what it works on. Four warps have 16 or 32 of the
// block's rows each. The lists know blocks of 128 rows and tiles of 64; a block of threads may have a part of such a
// block, and goes through a tile in as many steps as its registers and its shared memory ask for.

#include <type_traits>

#include "kernels/cuda/mma.cuh"
#include "kernels/tree_attention/cuda/work.cuh"
#include "kernels/tree_attention/portable/portable_attention.hpp"

namespace fpdist::kernels {

constexpr int kWarps = 4, kPortableThreads = 32 * kWarps;
constexpr uint32_t kMostShared = 99 << 10;  // what the smallest GPUs from sm_80 on lend a block

/// kTiles times 16 rows a warp, kColumns of the other side a step, and how many steps' worth lies in shared memory.
template <int kTilesOfWarp, int kColumnsOfStep, int kSlotsOfRing = 1>
struct Shape {
  static constexpr int kTiles = kTilesOfWarp, kColumns = kColumnsOfStep, kSlots = kSlotsOfRing;
  static constexpr int kRows = 16 * kTiles * kWarps;
  static constexpr int kScores = kColumns / 2;  ///< registers of a lane, for 16 rows
};

/// The warp's first row of the block's.
template <typename S>
__device__ __forceinline__ int row_of_warp() {
  return static_cast<int>(threadIdx.x / 32) * 16 * S::kTiles;
}
/// The lane's first row of the warp's.
__device__ __forceinline__ int row_of_lane() { return static_cast<int>(threadIdx.x % 32 / 4); }

/// body(std::integral_constant) of a head size that there are kernels for; cudaErrorInvalidValue for others.
template <typename Body>
cudaError_t with_head_size(int size, const Body& body) {
  switch (size) {
    case 64:
      return body(std::integral_constant<int, 64>());
    case 96:
      return body(std::integral_constant<int, 96>());
    case 128:
      return body(std::integral_constant<int, 128>());
    case 256:
      return body(std::integral_constant<int, 256>());
    default:
      return cudaErrorInvalidValue;
  }
}

/// The grid of lists whose blocks have kRows rows each: heads, blocks, parts of a block.
template <typename S>
dim3 portable_grid(int heads, const TileLists& lists, int rows) {
  dim3 grid = grid_of(heads, lists);
  grid.z = static_cast<unsigned>(rows / S::kRows);
  return grid;
}

}  // namespace fpdist::kernels
