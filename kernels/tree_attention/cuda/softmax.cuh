#pragma once
// tree_attention on the GPU: scores of a tile as they lie in a warpgroup's registers (wgmma.cuh), a lane's two rows
// lane / 4 and + 8 of each 16: which of them are visible, and the softmax that goes along.

#include <cmath>

#include "kernels/tree_attention/cuda/tree_attention_kernel.hpp"

namespace fpdist::kernels {

constexpr float kLog2E = 1.4426950408889634f, kLn2 = 0.6931471805599453f;

/// 2^x and log2 x in one instruction each; results too small for a normal number are 0.
__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float log2_fast(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// Whether a key is visible to a query: one subtraction and one comparison, for below 0 is far above as unsigned.
__device__ __forceinline__ bool is_visible(int32_t q_row, int32_t k_row, int32_t rows) {
  return static_cast<uint32_t>(q_row - k_row) < static_cast<uint32_t>(rows);
}

/// Scores [rows][keys] of a tile whose keys begin at `key`: -inf where a key is hidden.
template <int N>
__device__ __forceinline__ void hide(float (&score)[N], const VisibleRows* key, const int32_t (&q_row)[2]) {
  const int4* const pairs = reinterpret_cast<const int4*>(key) + threadIdx.x % 4;
#pragma unroll
  for (int n = 0; n < N / 4; ++n) {
    const int4 pair = __ldg(pairs + 4 * n);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const bool is_seen =
          i % 2 == 0 ? is_visible(q_row[i / 2], pair.x, pair.y) : is_visible(q_row[i / 2], pair.z, pair.w);
      if (!is_seen) score[4 * n + i] = -INFINITY;
    }
  }
}

/// The same of scores [keys][queries]: the lane's two keys, and the tile's queries from `q_row` on.
template <int N>
__device__ __forceinline__ void hide(float (&score)[N], const int32_t* q_row, const VisibleRows (&key)[2]) {
  const int2* const pairs = reinterpret_cast<const int2*>(q_row) + threadIdx.x % 4;
#pragma unroll
  for (int n = 0; n < N / 4; ++n) {
    const int2 pair = __ldg(pairs + 4 * n);
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (!is_visible(i % 2 == 0 ? pair.x : pair.y, key[i / 2].row, key[i / 2].rows)) score[4 * n + i] = -INFINITY;
  }
}

/// The softmax of a lane's two rows so far. Scores are multiplied by `scale` (that of the scores times log2 e) where
/// they are raised to their powers of 2, in one instruction with the subtraction of the largest.
struct RunningSoftmax {
  float top[2] = {-INFINITY, -INFINITY};  ///< largest score
  float sum[2] = {};                      ///< of the lane's own weights

  /// Scores become weights relative to the largest score so far; what was summed before counts `kept` times now.
  template <int N>
  __device__ __forceinline__ void take(float (&score)[N], float scale, float (&kept)[2]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float largest = top[half];
#pragma unroll
      for (int n = 0; n < N / 4; ++n)
        largest = fmaxf(largest, fmaxf(score[4 * n + 2 * half], score[4 * n + 2 * half + 1]));
      largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
      largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 2));
      const float base = base_of(largest, scale);
      kept[half] = exp2_fast(fmaf(top[half], scale, -base));
      top[half] = largest;
      float added = 0;
#pragma unroll
      for (int n = 0; n < N / 4; ++n)
#pragma unroll
        for (int i = 4 * n + 2 * half; i < 4 * n + 2 * half + 2; ++i) {
          score[i] = exp2_fast(fmaf(score[i], scale, -base));
          added += score[i];
        }
      sum[half] = fmaf(sum[half], kept[half], added);
    }
  }

  /// Of row `half`: what its output is to be multiplied by, 0 without keys; and log of the sum of its weights.
  __device__ __forceinline__ float finish(int half, float scale, float& lse) {
    float all = sum[half];
    all += __shfl_xor_sync(0xffffffffu, all, 1);
    all += __shfl_xor_sync(0xffffffffu, all, 2);
    lse = all > 0 ? (base_of(top[half], scale) + log2_fast(all)) * kLn2 : -INFINITY;
    return all > 0 ? 1 / all : 0;
  }

 private:
  /// A row without keys has no largest score: its weights are 2^-inf all the same.
  static __device__ __forceinline__ float base_of(float largest, float scale) {
    return largest == -INFINITY ? 0 : largest * scale;
  }
};

}  // namespace fpdist::kernels
