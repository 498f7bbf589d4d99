// rms_norm: a row belongs to 8, 16, 32, 64, ... lanes, each of which holds four vectors of it, so x (and grad_out) are
// read once although they are needed twice: for the row's sums and for its results. Sums go down a butterfly in a warp
// (every lane ends with the same bits) and through shared memory between warps.
//
// Backward: a block takes every blocks-th group of rows and keeps its share of dw in registers; at its end the rows'
// shares of narrow rows are added in shared memory, in order, and written as one partial sum. The second kernel adds
// the partial sums. No atomics: the order is fixed.
#include "kernels/cuda/dispatch.cuh"
#include "kernels/rms_norm/cuda/rms_norm_kernel.hpp"
#include "kernels/rms_norm/cuda/rms_norm_limits.hpp"

namespace fpdist::kernels {
namespace {

constexpr int kMostWarps = kMostThreads / 32;
constexpr int kColumns = 32, kSummers = 32;  // of a block of the second kernel: columns, and who share one

/// The row's sum of each value, on all its lanes. All threads of the block call it. scratch [kMostWarps][N] shared; it
/// is used by rows of more than one warp only, and such a row has the block for itself.
template <int N>
__device__ __forceinline__ void sum_over_row(float (&value)[N], float (*scratch)[N]) {
  const int lanes = static_cast<int>(blockDim.x);
  for (int offset = (lanes < 32 ? lanes : 32) / 2; offset > 0; offset /= 2)
#pragma unroll
    for (int i = 0; i < N; ++i) value[i] += __shfl_xor_sync(0xffffffffu, value[i], offset);
  if (lanes <= 32) return;
  __syncthreads();  // the sums of the row before have been read
  if (threadIdx.x % 32 == 0)
#pragma unroll
    for (int i = 0; i < N; ++i) scratch[threadIdx.x / 32][i] = value[i];
  __syncthreads();
#pragma unroll
  for (int i = 0; i < N; ++i) value[i] = 0.0f;
  for (int warp = 0; warp < lanes / 32; ++warp)
#pragma unroll
    for (int i = 0; i < N; ++i) value[i] += scratch[warp][i];
}

/// 1 / rms: the same bits forward and backward.
__device__ __forceinline__ float scale_of(float sum_of_squares, uint32_t width, float eps) {
  return 1.0f / sqrtf(sum_of_squares / static_cast<float>(width) + eps);
}

/// Where the lane's k-th access to a row begins. Unsigned: the sign's extension would cost registers.
template <int N>
__device__ __forceinline__ uint32_t column_of(int k) {
  return (threadIdx.x + static_cast<uint32_t>(k) * blockDim.x) * N;
}

template <typename T, int N>
__global__ void __launch_bounds__(kMostThreads) rms_norm_forward(const __grid_constant__ RmsNormArguments a) {
  __shared__ float scratch[kMostWarps][1];
  const int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  const bool is_row = row < a.rows;
  const T* const x = static_cast<const T*>(a.x) + row * a.x_stride;
  Bits<T, N> held[kAccessesOfLane] = {}, weight_bits[kAccessesOfLane];
  float sum[1] = {};
#pragma unroll
  for (int k = 0; k < kAccessesOfLane; ++k)
    if (is_row && column_of<N>(k) < a.width) {
      held[k] = load<N>(x + column_of<N>(k));
      weight_bits[k] = load<N>(static_cast<const T*>(a.weight) + column_of<N>(k));
    }
#pragma unroll
  for (int k = 0; k < kAccessesOfLane; ++k) {
    float value[N];
    expand(held[k], value);
#pragma unroll
    for (int i = 0; i < N; ++i) sum[0] += value[i] * value[i];
  }
  sum_over_row(sum, scratch);
  const float scale = scale_of(sum[0], a.width, a.eps);
#pragma unroll
  for (int k = 0; k < kAccessesOfLane; ++k) {
    const uint32_t column = column_of<N>(k);
    if (!is_row || column >= a.width) continue;
    float value[N], weight[N];
    expand(held[k], value), expand(weight_bits[k], weight);
#pragma unroll
    for (int i = 0; i < N; ++i) value[i] *= scale;
    round_to<T>(value);
#pragma unroll
    for (int i = 0; i < N; ++i) value[i] *= weight[i];
    store<N>(static_cast<T*>(a.y) + row * a.width + column, pack(value, T{}));
  }
}

/// What a lane holds of one row.
template <typename T, int N, int K>
struct HeldRow {
  Bits<T, N> x[K] = {}, grad[K] = {};
};

template <typename T, int N, int K>
__device__ __forceinline__ HeldRow<T, N, K> load_row(const RmsNormBackwardArguments& a, int64_t row) {
  HeldRow<T, N, K> held;
#pragma unroll
  for (int k = 0; k < K; ++k) {
    const uint32_t column = column_of<N>(k);
    if (row >= a.rows || column >= a.width) continue;
    held.x[k] = load<N>(static_cast<const T*>(a.x) + row * a.x_stride + column);
    held.grad[k] = load<N>(static_cast<const T*>(a.grad_out) + row * a.grad_out_stride + column);
  }
  return held;
}

/// dx of the row, and its share of dw added to `dw`.
template <typename T, int N, int K>
__device__ __forceinline__ void backward_row(const RmsNormBackwardArguments& a, const HeldRow<T, N, K>& held,
                                             int64_t row, const Bits<T, N> (&weight_bits)[K], float (&dw)[K][N],
                                             float (*scratch)[2]) {
  float sum[2] = {};  // of x^2 and of grad * weight * x
#pragma unroll
  for (int k = 0; k < K; ++k) {
    float x[N], grad[N], weight[N];
    expand(held.x[k], x), expand(held.grad[k], grad), expand(weight_bits[k], weight);
#pragma unroll
    for (int i = 0; i < N; ++i) sum[0] += x[i] * x[i], sum[1] += grad[i] * weight[i] * x[i];
  }
  sum_over_row(sum, scratch);
  const float scale = scale_of(sum[0], a.width, a.eps);
  const float pull = sum[1] * scale * scale * scale / static_cast<float>(a.width);
#pragma unroll
  for (int k = 0; k < K; ++k) {
    const uint32_t column = column_of<N>(k);
    if (row >= a.rows || column >= a.width) continue;
    float x[N], grad[N], weight[N], normed[N];
    expand(held.x[k], x), expand(held.grad[k], grad), expand(weight_bits[k], weight);
#pragma unroll
    for (int i = 0; i < N; ++i) normed[i] = x[i] * scale;
    round_to<T>(normed);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      dw[k][i] += grad[i] * normed[i];
      x[i] = scale * grad[i] * weight[i] - pull * x[i];
    }
    store<N>(static_cast<T*>(a.dx) + row * a.width + column, pack(x, T{}));
  }
}

/// The block's share of dw, one partial sum: rows' lanes in order.
template <int N, int K>
__device__ __forceinline__ void write_partial(const RmsNormBackwardArguments& a, float (&dw)[K][N], float* columns) {
  float* const partial = a.partial + static_cast<int64_t>(blockIdx.x) * a.width;
  if (blockDim.y > 1) {
#pragma unroll
    for (int k = 0; k < K; ++k)
#pragma unroll
      for (int i = 0; i < N; ++i)
        if (column_of<N>(k) < a.width) columns[threadIdx.y * a.width + column_of<N>(k) + i] = dw[k][i];
    __syncthreads();
    for (uint32_t column = threadIdx.y * blockDim.x + threadIdx.x; column < a.width; column += kThreads) {
      float sum = 0.0f;
      for (uint32_t row = 0; row < blockDim.y; ++row) sum += columns[row * a.width + column];
      partial[column] = sum;
    }
    return;
  }
#pragma unroll
  for (int k = 0; k < K; ++k)
#pragma unroll
    for (int i = 0; i < N; ++i)
      if (column_of<N>(k) < a.width) partial[column_of<N>(k) + i] = dw[k][i];
}

/// K vectors a lane, blocks of kThreadsOfBlock at most, kBlocks of them on an SM. `kPrefetches`: a row is on its way
/// while the one before it is worked on, which takes the registers of blocks that are small.
template <typename T, int N, int K, int kThreadsOfBlock, int kBlocks, bool kPrefetches>
__global__ void __launch_bounds__(kThreadsOfBlock, kBlocks)
    rms_norm_backward(const __grid_constant__ RmsNormBackwardArguments a) {
  __shared__ float scratch[kMostWarps][2];
  __shared__ float columns[kThreads * K * N];  // of narrow rows: rows_in_block x width at most
  Bits<T, N> weight[K] = {};
#pragma unroll
  for (int k = 0; k < K; ++k)
    if (column_of<N>(k) < a.width) weight[k] = load<N>(static_cast<const T*>(a.weight) + column_of<N>(k));
  float dw[K][N] = {};
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * blockDim.y,
                step = static_cast<int64_t>(gridDim.x) * blockDim.y;
  HeldRow<T, N, K> next;
  if (kPrefetches) next = load_row<T, N, K>(a, begin + threadIdx.y);
    // All of the block's rows go on while one of them is there: sums need every lane.
#pragma unroll 1
  for (int64_t first = begin; first < a.rows; first += step) {
    const HeldRow<T, N, K> held = kPrefetches ? next : load_row<T, N, K>(a, first + threadIdx.y);
    if (kPrefetches) next = load_row<T, N, K>(a, first + step + threadIdx.y);
    backward_row<T, N, K>(a, held, first + threadIdx.y, weight, dw, scratch);
  }
  write_partial<N, K>(a, dw, columns);
}

/// dw = the sum of `partials` partial sums.
__global__ void __launch_bounds__(kColumns* kSummers)
    sum_partials(const float* partial, float* dw, uint32_t partials, uint32_t width) {
  __shared__ float sums[kSummers][kColumns];
  const uint32_t column = blockIdx.x * kColumns + threadIdx.x;
  float sum = 0.0f;
  if (column < width)
#pragma unroll 8
    for (uint32_t p = threadIdx.y; p < partials; p += kSummers)
      sum += __ldg(partial + static_cast<int64_t>(p) * width + column);
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= width) return;
  for (int y = 1; y < kSummers; ++y) sum += sums[y][threadIdx.x];
  dw[column] = sum;
}

}  // namespace

cudaError_t launch_rms_norm(const RmsNormArguments& arguments, const RmsNormShape& shape, cudaStream_t stream) {
  if (arguments.rows == 0 || arguments.width == 0) return cudaSuccess;
  const auto blocks = static_cast<unsigned>((arguments.rows + shape.rows_in_block - 1) / shape.rows_in_block);
  const dim3 block(static_cast<unsigned>(shape.lanes), static_cast<unsigned>(shape.rows_in_block));
  with_access(shape.element, shape.is_vectorised, [&](auto access) {
    using A = decltype(access);
    rms_norm_forward<typename A::Type, A::kElements><<<blocks, block, 0, stream>>>(arguments);
  });
  return cudaGetLastError();
}

cudaError_t launch_rms_norm_backward(const RmsNormBackwardArguments& arguments, const RmsNormShape& shape,
                                     cudaStream_t stream) {
  if (arguments.width == 0) return cudaSuccess;
  const dim3 block(static_cast<unsigned>(shape.lanes), static_cast<unsigned>(shape.rows_in_block));
  if (shape.blocks > 0) {
    with_access(shape.element, shape.is_vectorised, [&](auto access) {
      using A = decltype(access);
      using T = typename A::Type;
      constexpr int kN = A::kElements;
      auto* const kernel = shape.accesses == kFewAccesses ? rms_norm_backward<T, kN, kFewAccesses, kThreads, 4, true>
                           : shape.lanes <= kThreads
                               ? rms_norm_backward<T, kN, kAccessesOfLane, kThreads, 3, true>
                               : rms_norm_backward<T, kN, kAccessesOfLane, kMostThreads, 1, false>;
      kernel<<<static_cast<unsigned>(shape.blocks), block, 0, stream>>>(arguments);
    });
    if (const cudaError_t error = cudaGetLastError(); error != cudaSuccess) return error;
  }
  const auto columns = static_cast<unsigned>((arguments.width + kColumns - 1) / kColumns);
  sum_partials<<<columns, dim3(kColumns, kSummers), 0, stream>>>(arguments.partial, arguments.dw,
                                                                 static_cast<uint32_t>(shape.blocks), arguments.width);
  return cudaGetLastError();
}

}  // namespace fpdist::kernels
