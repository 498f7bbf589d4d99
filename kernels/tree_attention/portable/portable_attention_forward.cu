// tree_attention, forward, from sm_80 on. A block has 128 or 64 queries of one head and goes through its tiles of 64
// keys: a tile's values come while its scores are computed, the next tile's keys while they are raised to their powers
// and the outputs add up.
#include <cuda_runtime.h>

#include "kernels/tree_attention/cuda/merge.cuh"
#include "kernels/tree_attention/cuda/rows.cuh"
#include "kernels/tree_attention/cuda/softmax.cuh"
#include "kernels/tree_attention/portable/block.cuh"

namespace fpdist::kernels {
namespace {

template <int kHead>
using ForwardShape = Shape<kHead <= 128 ? 2 : 1, kHead == 128 ? 32 : 64>;

template <typename T, int kHead>
struct ForwardBlock {
  using S = ForwardShape<kHead>;
  using Rows = ChunkedRows<kHead>;
  static constexpr int kSteps = kKeysOfBackwardTile / S::kColumns;  // of a tile
  static constexpr uint32_t kQueryBytes = S::kRows * Rows::kRowBytes, kKeyBytes = S::kColumns * Rows::kRowBytes;
  static constexpr uint32_t kBytes = kQueryBytes + 2 * kKeyBytes;
  static_assert(kBytes <= kMostShared);
  const TreeAttentionArguments& a;
  const uint32_t queries;
  const uint32_t keys = queries + kQueryBytes, values = keys + kKeyBytes;
  const TileWork work{a.by_query};
  const QueryPart part{work, a.q.heads, a.cut};
  const int key_head = part.head / (a.q.heads / a.k.heads);
  const int first_row = work.block * kQueryBlock + static_cast<int>(blockIdx.z) * S::kRows;
  const int row = first_row + row_of_warp<S>() + row_of_lane();
  const float scale = a.scale * kLog2E;
  RunningSoftmax softmax[S::kTiles]{};
  float out[S::kTiles][kHead / 2] = {};

  __device__ __forceinline__ int tile_of(int step) const { return __ldg(a.by_query.tile + part.first + step / kSteps); }
  __device__ __forceinline__ int first_key(int tile, int step) const {
    return (tile >> 1) * kKeysOfBackwardTile + step % kSteps * S::kColumns;
  }
  __device__ __forceinline__ void send(uint32_t to, const HeadsTensor& from, int step) const {
    copy_rows<kHead, S::kColumns, kPortableThreads>(to, from, key_head, first_key(tile_of(step), step));
    commit_copies();
  }
  /// What was sent for is there, for every thread, and no thread reads what was there before.
  __device__ __forceinline__ static void meet() {
    wait_copies<0>();
    __syncthreads();
  }

  __device__ __forceinline__ void raise(float (&score)[S::kTiles][S::kScores], int step,
                                        uint32_t (&weight)[S::kTiles][S::kScores / 2]) {
    const int tile = tile_of(step);
#pragma unroll
    for (int m = 0; m < S::kTiles; ++m) {
      if (tile & 1) {
        const int32_t* const own = a.rows.q_row + row + 16 * m;
        const int32_t q_row[2] = {__ldg(own), __ldg(own + 8)};
        hide(score[m], a.rows.key + first_key(tile, step), q_row);
      }
      float kept[2];
      softmax[m].take(score[m], scale, kept);
      round_into<T>(score[m], weight[m]);
#pragma unroll
      for (int i = 0; i < kHead / 2; ++i) out[m][i] *= kept[i / 2 % 2];
    }
  }

  __device__ __forceinline__ void run_step(int step, int steps) {
    float score[S::kTiles][S::kScores];
    uint32_t weight[S::kTiles][S::kScores / 2];
    meet();
    send(values, a.v, step);
    multiply_heads<T, kHead>(score, queries + row_of_warp<S>() * Rows::kRowBytes, keys);
    meet();
    if (step + 1 < steps) send(keys, a.k, step + 1);
    raise(score, step, weight);
    add_product<T, kHead>(out, weight, values);
  }

  __device__ __forceinline__ void run() {
    const int steps = part.tiles * kSteps;
    if (steps == 0) return;
    copy_rows<kHead, S::kRows, kPortableThreads>(queries, a.q, part.head, first_row);
    send(keys, a.k, 0);
#pragma unroll 1
    for (int step = 0; step < steps; ++step) run_step(step, steps);
  }

  __device__ __forceinline__ void store() {
#pragma unroll
    for (int m = 0; m < S::kTiles; ++m) {
      float factor[2], lse[2];
#pragma unroll
      for (int half = 0; half < 2; ++half) factor[half] = softmax[m].finish(half, scale, lse[half]);
      if (part.is_cut) {
        const int64_t rows = a.cut.blocks * kQueryBlock;
        float* const own = a.parts + part.part * rows * a.q.heads * (kHead + 1);
        const int64_t here = row + 16 * m - work.block * kQueryBlock + blockIdx.y * kQueryBlock;
        store_lse(own + rows * a.q.heads * kHead, lse, here, rows);
        store_rows<float>(own, out[m], factor, here, rows, part.head, a.q.heads);
      } else {
        store_lse(a.lse, lse, row + 16 * m, a.q.rows);
        store_result<T>(a.result, a.out, out[m], factor, row + 16 * m, a.q.rows, part.head, a.q.heads);
      }
    }
  }
  /// Of the lane's two rows, the first at `first`.
  __device__ __forceinline__ void store_lse(float* to, const float (&lse)[2], int64_t first, int64_t rows) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t own = first + 8 * half;
      if (threadIdx.x % 4 == 0 && own < rows) to[own * a.q.heads + part.head] = lse[half];
    }
  }
};

constexpr int kMergeThreads = 256;

/// What the parts of a block of queries that is cut, the grid's y-th, have come to, in their order: four elements a
/// thread.
template <typename T>
__global__ void __launch_bounds__(kMergeThreads)
    portable_attention_merge_parts(const __grid_constant__ TreeAttentionArguments a) {
  const auto size = static_cast<uint32_t>(a.q.size), here = (blockIdx.x * kMergeThreads + threadIdx.x) * 4;
  const uint32_t head = here / size, column = here % size;  // of the block's heads, row after row
  const int64_t of_block = int64_t{kQueryBlock} * a.q.heads, heads = a.cut.blocks * of_block, elements = heads * size;
  const int64_t own = blockIdx.y * of_block + head, at = own * size + column;
  const int64_t to = __ldg(a.by_query.order + blockIdx.y) * of_block + head;
  if (head >= of_block || to >= a.q.rows * a.q.heads) return;
  const float* const first_lse = a.parts + elements + own;
  float out[4] = {};
  const float lse = merge_parts(
      out, 0, a.cut.parts, [](int part) { return part; },
      [&](int part) { return first_lse + part * (elements + heads); },
      [&](int part) { return a.parts + part * (elements + heads) + at; });
  if (column == 0) a.lse[to] = lse;
  store_four(static_cast<T*>(a.out) + to * size + column, out);
}

template <typename T>
cudaError_t launch_merge(const TreeAttentionArguments& a, cudaStream_t stream) {
  if (a.cut.blocks == 0) return cudaSuccess;
  const int64_t threads = int64_t{kQueryBlock} * a.q.heads * a.q.size / 4;
  const dim3 blocks(static_cast<unsigned>((threads + kMergeThreads - 1) / kMergeThreads),
                    static_cast<unsigned>(a.cut.blocks));
  with_element<T>(a.result, [&](auto result) {
    portable_attention_merge_parts<decltype(result)><<<blocks, kMergeThreads, 0, stream>>>(a);
  });
  return cudaGetLastError();
}

template <typename T, int kHead>
__global__ void __launch_bounds__(kPortableThreads)
    portable_attention_forward(const __grid_constant__ TreeAttentionArguments a) {
  extern __shared__ __align__(128) unsigned char memory[];
  ForwardBlock<T, kHead> block{a, static_cast<uint32_t>(__cvta_generic_to_shared(memory))};
  if (!block.part.is_here || block.first_row >= a.q.rows) return;
  block.run();
  block.store();
}

template <typename T, int kHead>
cudaError_t launch(const TreeAttentionArguments& a, cudaStream_t stream) {
  using Block = ForwardBlock<T, kHead>;
  constexpr auto kBytes = static_cast<int>(Block::kBytes);
  const auto kernel = portable_attention_forward<T, kHead>;
  if (const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
      error != cudaSuccess)
    return error;
  const dim3 grid = portable_grid<typename Block::S>(a.q.heads * a.cut.parts, a.by_query, kQueryBlock);
  kernel<<<grid, kPortableThreads, kBytes, stream>>>(a);
  if (const cudaError_t error = cudaGetLastError(); error != cudaSuccess) return error;
  return launch_merge<T>(a, stream);
}

}  // namespace

cudaError_t launch_portable_attention(const TreeAttentionArguments& arguments, cudaStream_t stream) {
  if (arguments.q.rows == 0 || arguments.q.heads == 0) return cudaSuccess;
  return with_factor(arguments.element, [&](auto factor) {
    return with_head_size(arguments.q.size,
                          [&](auto head) { return launch<decltype(factor), head()>(arguments, stream); });
  });
}

}  // namespace fpdist::kernels
