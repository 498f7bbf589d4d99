// tree_attention, backward: a warp goes once over a query's outputs and their gradients. Also where the backward's
// kernels are queued.
#include <cuda_runtime.h>

#include "kernels/cuda/vector.cuh"
#include "kernels/tree_attention/cuda/backward.hpp"
#include "kernels/tree_attention/cuda/block.cuh"
#include "kernels/tree_attention/cuda/softmax.cuh"

namespace fpdist::kernels {
namespace {

constexpr int kRowsOfBlock = 8;

/// Two of them.
__device__ __forceinline__ float2 load_two(const float* from) { return __ldg(reinterpret_cast<const float2*>(from)); }
__device__ __forceinline__ float2 load_two(const BFloat16* from) {
  const uint32_t pair = __ldg(reinterpret_cast<const uint32_t*>(from));
  return {low_of(pair), high_of(pair)};
}

template <int kHead, typename T>
__global__ void __launch_bounds__(32 * kRowsOfBlock)
    tree_attention_row_sums(const __grid_constant__ TreeAttentionBackwardArguments a, int64_t padded) {
  const int lane = threadIdx.x % 32, head = static_cast<int>(blockIdx.x);
  const int64_t row = static_cast<int64_t>(blockIdx.y) * kRowsOfBlock + threadIdx.x / 32;
  float log_sum = INFINITY, sum = 0;
  if (row < a.q.rows) {
    const auto* const grad =
        static_cast<const BFloat16*>(a.grad_out.data) + row * a.grad_out.row_stride + head * a.grad_out.head_stride;
    const T* const out = static_cast<const T*>(a.out) + (row * a.q.heads + head) * kHead;
#pragma unroll
    for (int column = 2 * lane; column < kHead; column += 64) {
      const float2 up = load_two(grad + column), own = load_two(out + column);
      sum += up.x * own.x + up.y * own.y;
    }
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
    if (const float lse = __ldg(a.lse + row * a.q.heads + head); lse != -INFINITY) log_sum = lse * kLog2E;
  }
  if (lane != 0 || row >= padded) return;
  float* const place = a.row_sums + head * padded + row;
  place[0] = log_sum, place[a.q.heads * padded] = sum;
}

}  // namespace

cudaError_t launch_row_sums(const TreeAttentionBackwardArguments& a, cudaStream_t stream) {
  const int64_t padded = padded_queries(a);
  const dim3 grid(static_cast<unsigned>(a.q.heads), static_cast<unsigned>(padded / kRowsOfBlock));
  with_element(a.merged, [&](auto element) {
    using T = decltype(element);
    if (a.q.size == 64)
      tree_attention_row_sums<64, T><<<grid, 32 * kRowsOfBlock, 0, stream>>>(a, padded);
    else
      tree_attention_row_sums<128, T><<<grid, 32 * kRowsOfBlock, 0, stream>>>(a, padded);
  });
  return cudaGetLastError();
}

cudaError_t launch_tree_attention_backward(const TreeAttentionBackwardArguments& a, cudaStream_t stream) {
  if (a.q.size != 64 && a.q.size != 128) return cudaErrorInvalidValue;
  if (a.q.heads == 0) return cudaSuccess;
  if (a.q.rows > 0) {
    if (const cudaError_t error = launch_row_sums(a, stream); error != cudaSuccess) return error;
    if (const cudaError_t error = launch_query_gradients(a, stream); error != cudaSuccess) return error;
  }
  return a.k.rows > 0 ? launch_key_gradients(a, stream) : cudaSuccess;
}

}  // namespace fpdist::kernels
