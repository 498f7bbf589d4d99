#pragma once
// tree_attention on the GPU: sums of products, as they lie in registers (wgmma.cuh and mma.cuh), to rows in memory.

#include "kernels/cuda/element.hpp"
#include "kernels/cuda/vector.cuh"

namespace fpdist::kernels {

/// Of a quad's lanes, each with four words, lane t gets word t of all four, in their order.
__device__ __forceinline__ void transpose_in_quad(uint32_t (&word)[4]) {
  const uint32_t lane = threadIdx.x;
#pragma unroll
  for (int step = 1; step <= 2; step *= 2)
#pragma unroll
    for (int low = 0; low < 4; ++low) {
      if (low & step) continue;
      uint32_t &first = word[low], &second = word[low + step];
      const uint32_t other = __shfl_xor_sync(0xffffffffu, lane & step ? first : second, step);
      (lane & step ? first : second) = other;
    }
}

/// Four elements side by side.
__device__ __forceinline__ void store_four(float* to, const float (&x)[4]) { store<4>(to, pack(x, float{})); }
template <typename T>
__device__ __forceinline__ void store_four(T* to, const float (&x)[4]) {
  *reinterpret_cast<uint2*>(to) = {round_pair(x[0], x[1], T{}), round_pair(x[2], x[3], T{})};
}

/// Half `half` of the thread's rows of a sum times `factor`, to the row that begins at `row`, null where there is none.
template <int N>
__device__ __forceinline__ void store_row(float* row, const float (&sum)[N], int half, float factor) {
  if (row == nullptr) return;
  float* const place = row + threadIdx.x % 4 * 2;
#pragma unroll
  for (int n = 0; n < N / 4; ++n)
    *reinterpret_cast<float2*>(place + 8 * n) = {sum[4 * n + 2 * half] * factor, sum[4 * n + 2 * half + 1] * factor};
}
template <typename T, int N>
__device__ __forceinline__ void store_row(T* row, const float (&sum)[N], int half, float factor) {
#pragma unroll
  for (int n = 0; n < N / 4; n += 4) {  // 16 bytes a lane then
    uint32_t word[4];
#pragma unroll
    for (int i = 0; i < 4; ++i)
      word[i] = round_pair(sum[4 * (n + i) + 2 * half] * factor, sum[4 * (n + i) + 2 * half + 1] * factor, T{});
    transpose_in_quad(word);
    if (row != nullptr) store<8>(row + 8 * (n + threadIdx.x % 4), uint4{word[0], word[1], word[2], word[3]});
  }
}

/// The thread's two rows of a sum times `factor`, to [rows, heads, head size]; `row` is the first of them.
template <typename T, int N>
__device__ __forceinline__ void store_rows(void* to, const float (&sum)[N], const float (&factor)[2], int64_t row,
                                           int64_t rows, int head, int heads) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t at = row + 8 * half;
    store_row(at < rows ? static_cast<T*>(to) + (at * heads + head) * (2 * N) : nullptr, sum, half, factor[half]);
  }
}

/// The same, of `result`: float32 or rounded to T.
template <typename T, int N>
__device__ __forceinline__ void store_result(Element result, void* to, const float (&sum)[N], const float (&factor)[2],
                                             int64_t row, int64_t rows, int head, int heads) {
  if (result == Element::kFloat32)
    store_rows<float>(to, sum, factor, row, rows, head, heads);
  else
    store_rows<T>(to, sum, factor, row, rows, head, heads);
}

}  // namespace fpdist::kernels
