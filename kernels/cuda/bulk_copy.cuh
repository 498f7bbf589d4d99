#pragma once
// kernels/cuda: TMA, the copies of whole tiles that one thread sends for. A tile [rows][head] of a tensor [rows, heads,
// head size] comes as panels of 64 columns (wgmma.cuh), one after another; rows beyond the tensor come as zeros, and
// their bytes count.

#include <cuda.h>

#include "kernels/cuda/mbarrier.cuh"
#include "kernels/cuda/wgmma.cuh"

namespace fpdist::kernels {

__device__ __forceinline__ void prefetch_map(const CUtensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

/// kRows rows from `row` on, of one head, to `to`; they report to `barrier`.
template <int kRows, int kHeadSize>
__device__ __forceinline__ void copy_tile(uint32_t to, const CUtensorMap& map, uint32_t barrier, int head, int row) {
#pragma unroll
  for (int panel = 0; panel < kHeadSize / kPanelColumns; ++panel)
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], "
        "[%2];" ::"r"(to + panel * kRows * kPanelRowBytes),
        "l"(&map), "r"(barrier), "r"(panel * kPanelColumns), "r"(head), "r"(row)
        : "memory");
}

/// `bytes` side by side, a multiple of 16, from and to multiples of 16.
__device__ __forceinline__ void copy_bytes(uint32_t to, const void* from, uint32_t bytes, uint32_t barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
               "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(barrier)
               : "memory");
}

}  // namespace fpdist::kernels
