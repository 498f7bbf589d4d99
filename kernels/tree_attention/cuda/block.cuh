#pragma once
// tree_attention on the GPU: how a block of Hopper's threads is divided, and its products. One warpgroup sends
// for tiles by TMA, a ring ahead; two others have 64 of the block's rows each.

#include "kernels/cuda/bulk_copy.cuh"
#include "kernels/tree_attention/cuda/rows.cuh"
#include "kernels/tree_attention/cuda/work.cuh"

namespace fpdist::kernels {

constexpr int kConsumers = 2, kGroupThreads = 128, kThreads = kGroupThreads * (kConsumers + 1);
constexpr int kRowsOfGroup = 64;
static_assert(kQueryBlock == kConsumers * kRowsOfGroup && kKeyBlock == kConsumers * kRowsOfGroup);
// Registers of a thread: each of the 384 begins with 168. The producer needs few.
constexpr int kProducerRegisters = 24, kConsumerRegisters = 240;

template <int kRows>
constexpr uint32_t kPanelBytes = kRows* kPanelRowBytes;
template <int kRows, int kHead>
constexpr uint32_t kTileBytes = kRows* kHead * 2;

/// The thread's first row among those of its block: a lane has two of its warp's 16, eight apart.
__device__ __forceinline__ int row_of_thread(int group) {
  return group * kRowsOfGroup + threadIdx.x / 32 % 4 * 16 + threadIdx.x % 32 / 4;
}

/// The same for all lanes of a warp, and the compiler is to know it.
__device__ __forceinline__ int warpgroup() {
  return __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x / kGroupThreads), 0);
}

/// A warp's reads of a slot are over: it says so itself, for a wait for products speaks for its own warp only.
__device__ __forceinline__ void release(uint32_t empty) {
  if (threadIdx.x % 32 == 0) arrive(empty);
}

/// sum = A B^T over a head's columns: A [64][kHead] and B [columns][kHead], panels so many bytes apart.
template <int kHead, int N>
__device__ __forceinline__ void multiply_heads(float (&sum)[N], uint32_t a, uint32_t a_panel, uint32_t b,
                                               uint32_t b_panel) {
#pragma unroll
  for (int panel = 0; panel < kHead / kPanelColumns; ++panel) {
    const uint64_t left = along_columns(a + panel * a_panel), right = along_columns(b + panel * b_panel);
#pragma unroll
    for (int step = 0; step < kPanelColumns / 16; ++step) {
      if (panel == 0 && step == 0)
        multiply<0, 0>(sum, left, right);
      else
        multiply<0, 1>(sum, moved(left, step * 32), moved(right, step * 32));
    }
  }
}

/// sum += A B over the rows of B: A [64][rows] in registers, B [rows][head].
template <int N, int kRegisters>
__device__ __forceinline__ void add_product(float (&sum)[N], const uint32_t (&a)[kRegisters], uint32_t b,
                                            uint32_t b_panel) {
  const uint64_t right = along_rows(b, b_panel);
#pragma unroll
  for (int step = 0; step < kRegisters / 4; ++step)
    multiply<1, 1>(sum, a + 4 * step, moved(right, step * 16 * kPanelRowBytes));
}

}  // namespace fpdist::kernels
