// tree_attention, backward, from sm_80 on, in two passes, each computing the scores once more, so that every result has
// one writer. By queries: a block has some queries of one head, goes through their keys, and dQ += dS K. By keys: a
// block has some keys of one key head, goes through their queries, each for all query heads that share the keys; scores
// lie [keys][queries], so that weights and gradients of scores, rounded, are the left sides of dV += P^T dO and dK +=
// dS^T Q in the registers that they are in.
#include <cuda_runtime.h>

#include "kernels/tree_attention/cuda/backward_sums.hpp"
#include "kernels/tree_attention/cuda/rows.cuh"
#include "kernels/tree_attention/cuda/softmax.cuh"
#include "kernels/tree_attention/portable/block.cuh"

namespace fpdist::kernels {
namespace {

template <int kHead>
using QueriesShape = Shape<kHead <= 128 ? 2 : 1, 32, kHead <= 128 ? 2 : 1>;
// float16 takes an instruction and a register more to come back from a pair.
template <typename T, int kHead>
using KeysShape = std::conditional_t<kHead == 64 && std::is_same_v<T, Float16>, Shape<1, 64, 2>,
                                     Shape<kHead <= 64 ? 2 : 1, 32, kHead <= 128 ? 2 : 1>>;

/// send(step, slot) queues what compute(step, slot) needs, in time.
template <int kSlots, typename Send, typename Compute>
__device__ __forceinline__ void go_through(int steps, const Send& send, const Compute& compute) {
  if (steps > 0) send(0, 0);
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
    const bool has_next = step + 1 < steps;
    wait_copies<0>();
    __syncthreads();  // it is there for every thread, and nobody reads the other slot any more
    if (kSlots == 2 && has_next) send(step + 1, (step + 1) % kSlots);
    compute(step, step % kSlots);
    if (kSlots == 1 && has_next) {
      __syncthreads();
      send(step + 1, 0);
    }
  }
}

/// Both sums (row_sums) of kRows queries, one behind the other, 16 bytes a thread.
template <int kRows>
__device__ __forceinline__ void copy_sums(uint32_t to, const TreeAttentionBackwardArguments& a, int head, int query,
                                          int64_t padded) {
  constexpr int kThreads = kRows / 4;
  static_assert(2 * kThreads <= kPortableThreads);
  const int which = static_cast<int>(threadIdx.x) / kThreads, at = static_cast<int>(threadIdx.x) % kThreads * 4;
  if (which < 2)
    copy_chunk(to + 4 * (which * kRows + at), a.row_sums + (which * a.q.heads + head) * padded + query + at, true);
}

template <typename T, int kHead>
struct QueriesBlock {
  using S = QueriesShape<kHead>;
  using Rows = ChunkedRows<kHead>;
  static constexpr int kSteps = kKeysOfBackwardTile / S::kColumns;  // of a tile
  static constexpr uint32_t kQueryBytes = S::kRows * Rows::kRowBytes, kKeyBytes = S::kColumns * Rows::kRowBytes;
  static constexpr uint32_t kSumBytes = S::kRows * sizeof(float);
  static constexpr uint32_t kBytes = 2 * kQueryBytes + 2 * kSumBytes + 2 * S::kSlots * kKeyBytes;
  static_assert(kBytes <= kMostShared);
  const TreeAttentionBackwardArguments& a;
  const uint32_t queries;
  const uint32_t grads = queries + kQueryBytes, log_sums = grads + kQueryBytes, deltas = log_sums + kSumBytes;
  const uint32_t slots = deltas + kSumBytes;
  const TileWork work{a.by_query};
  const QueryPart part{work, a.q.heads, a.query_cut};
  const int key_head = part.head / (a.q.heads / a.k.heads);
  const int first_row = work.block * kQueryBlock + static_cast<int>(blockIdx.z) * S::kRows;
  const int row = first_row + row_of_warp<S>() + row_of_lane();
  const float scale = a.scale * kLog2E;
  float dq[S::kTiles][kHead / 2] = {};

  __device__ __forceinline__ uint32_t keys(int slot) const { return slots + slot * 2 * kKeyBytes; }
  __device__ __forceinline__ uint32_t values(int slot) const { return keys(slot) + kKeyBytes; }
  __device__ __forceinline__ int tile_of(int step) const { return __ldg(a.by_query.tile + part.first + step / kSteps); }
  __device__ __forceinline__ int first_key(int tile, int step) const {
    return (tile >> 1) * kKeysOfBackwardTile + step % kSteps * S::kColumns;
  }

  __device__ __forceinline__ void send(int step, int slot) const {
    const int key = first_key(tile_of(step), step);
    copy_rows<kHead, S::kColumns, kPortableThreads>(keys(slot), a.k, key_head, key);
    copy_rows<kHead, S::kColumns, kPortableThreads>(values(slot), a.v, key_head, key);
    commit_copies();
  }

  /// Of the lane's rows m * 16 and, half 1, eight further.
  __device__ __forceinline__ uint32_t of_row(uint32_t floats, int m, int half) const {
    return floats + 4 * (row_of_warp<S>() + row_of_lane() + 16 * m + 8 * half);
  }
  /// Scores become weights.
  __device__ __forceinline__ void raise(float (&score)[S::kTiles][S::kScores], int tile, int step) const {
#pragma unroll
    for (int m = 0; m < S::kTiles; ++m) {
      if (tile & 1) {
        const int32_t* const own = a.rows.q_row + row + 16 * m;
        const int32_t q_row[2] = {__ldg(own), __ldg(own + 8)};
        hide(score[m], a.rows.key + first_key(tile, step), q_row);
      }
      const float log_sum[2] = {load_float(of_row(log_sums, m, 0)), load_float(of_row(log_sums, m, 1))};
#pragma unroll
      for (int i = 0; i < S::kScores; ++i) score[m][i] = exp2_fast(fmaf(score[m][i], scale, -log_sum[i / 2 % 2]));
    }
  }

  __device__ __forceinline__ void compute(int step, int slot) {
    const int tile = tile_of(step);
    const uint32_t own = row_of_warp<S>() * Rows::kRowBytes;
    float score[S::kTiles][S::kScores], grad[S::kTiles][S::kScores];
    uint32_t score_grad[S::kTiles][S::kScores / 2];
    multiply_heads<T, kHead>(score, queries + own, keys(slot));
    raise(score, tile, step);
    multiply_heads<T, kHead>(grad, grads + own, values(slot));
#pragma unroll
    for (int m = 0; m < S::kTiles; ++m) {
      const float delta[2] = {load_float(of_row(deltas, m, 0)), load_float(of_row(deltas, m, 1))};
#pragma unroll
      for (int i = 0; i < S::kScores; ++i) grad[m][i] = score[m][i] * (grad[m][i] - delta[i / 2 % 2]);
      round_into<T>(grad[m], score_grad[m]);
    }
    add_product<T, kHead>(dq, score_grad, keys(slot));
  }

  __device__ __forceinline__ void run(int64_t padded) {
    if (part.tiles > 0) {
      copy_sums<S::kRows>(log_sums, a, part.head, first_row, padded);
      copy_rows<kHead, S::kRows, kPortableThreads>(queries, a.q, part.head, first_row);
      copy_rows<kHead, S::kRows, kPortableThreads>(grads, a.grad_out, part.head, first_row);
    }
    go_through<S::kSlots>(
        part.tiles * kSteps, [&](int step, int slot) { send(step, slot); },
        [&](int step, int slot) { compute(step, slot); });
  }

  __device__ __forceinline__ void store() const {
    const float scales[2] = {a.scale, a.scale};
#pragma unroll
    for (int m = 0; m < S::kTiles; ++m)
      if (part.is_cut) {
        const int64_t rows = a.query_cut.blocks * kQueryBlock;
        const int64_t here = row + 16 * m - work.block * kQueryBlock + blockIdx.y * kQueryBlock;
        store_rows<float>(a.dq_parts + part.part * rows * a.q.heads * kHead, dq[m], scales, here, rows, part.head,
                          a.q.heads);
      } else {
        store_result<T>(a.result, a.dq, dq[m], scales, row + 16 * m, a.q.rows, part.head, a.q.heads);
      }
  }
};

template <typename T, int kHead>
__global__ void __launch_bounds__(kPortableThreads, 1)
    portable_attention_query_gradients(const __grid_constant__ TreeAttentionBackwardArguments a, int64_t padded) {
  extern __shared__ __align__(128) unsigned char memory[];
  QueriesBlock<T, kHead> block{a, static_cast<uint32_t>(__cvta_generic_to_shared(memory))};
  if (!block.part.is_here || block.first_row >= a.q.rows) return;
  block.run(padded);
  block.store();
}

/// Which sums a block of threads makes: registers hold both up to a head size of 128.
constexpr int kValueSums = 1, kKeySums = 2;
template <int kHead>
constexpr int kSumsOfBlock = kHead <= 128 ? kValueSums + kKeySums : kValueSums;
template <int kHead>
constexpr int kBlocksOfSums = kHead <= 128 ? 1 : 2;

template <typename T, int kHead>
struct KeysMemory {
  using S = KeysShape<T, kHead>;
  static constexpr uint32_t kKeyBytes = S::kRows * ChunkedRows<kHead>::kRowBytes,
                            kQueryBytes = S::kColumns * ChunkedRows<kHead>::kRowBytes;
  static constexpr uint32_t kSumBytes = S::kColumns * sizeof(float), kSlotBytes = 2 * kQueryBytes + 2 * kSumBytes;
  static constexpr uint32_t kBytes = 2 * kKeyBytes + S::kSlots * kSlotBytes;
  static_assert(kBytes <= kMostShared);
  uint32_t keys;
  __device__ __forceinline__ uint32_t values() const { return keys + kKeyBytes; }
  __device__ __forceinline__ uint32_t queries(int slot) const { return values() + kKeyBytes + slot * kSlotBytes; }
  __device__ __forceinline__ uint32_t grads(int slot) const { return queries(slot) + kQueryBytes; }
  __device__ __forceinline__ uint32_t log_sums(int slot) const { return grads(slot) + kQueryBytes; }
  __device__ __forceinline__ uint32_t deltas(int slot) const { return log_sums(slot) + kSumBytes; }
};

template <typename T, int kHead, int kSums>
struct KeysBlock {
  using S = KeysShape<T, kHead>;
  using Rows = ChunkedRows<kHead>;
  using Scores = float[S::kTiles][S::kScores];
  using Rounded = uint32_t[S::kTiles][S::kScores / 2];
  static constexpr int kSteps = kQueriesOfTile / S::kColumns;  // of a tile and a head
  const TreeAttentionBackwardArguments& a;
  const KeysMemory<T, kHead> place;
  const int64_t padded;
  const TileWork work{a.by_key};
  const KeySteps steps{a, work};
  const int part = static_cast<int>(blockIdx.z) / kBlocksOfSums<kHead> * S::kRows;  // of the block of keys
  const int first_row = work.block * kKeyBlock + part;
  const float scale = a.scale * kLog2E;
  float dk[S::kTiles][kHead / 2] = {}, dv[S::kTiles][kHead / 2] = {};

  /// The lane's first row of the block of keys.
  __device__ __forceinline__ int row() const { return part + row_of_warp<S>() + row_of_lane(); }

  /// What a step is of: a tile's queries, for one head.
  struct StepRows {
    int tile, head, query;
  };
  __device__ __forceinline__ StepRows step_of(int step) const {
    const int pair = steps.begin + step / kSteps, group = a.q.heads / a.k.heads;
    const int tile = __ldg(a.by_key.tile + work.first + pair / group);
    return {tile, steps.key_head * group + pair % group, (tile >> 1) * kQueriesOfTile + step % kSteps * S::kColumns};
  }

  __device__ __forceinline__ void send(int step, int slot) const {
    const auto [tile, head, query] = step_of(step);
    copy_rows<kHead, S::kColumns, kPortableThreads>(place.queries(slot), a.q, head, query);
    copy_rows<kHead, S::kColumns, kPortableThreads>(place.grads(slot), a.grad_out, head, query);
    copy_sums<S::kColumns>(place.log_sums(slot), a, head, query, padded);
    commit_copies();
  }

  /// Where a lane's first column of a step is in a row of floats.
  static __device__ __forceinline__ uint32_t columns(uint32_t floats) { return floats + threadIdx.x % 4 * 8; }

  /// Scores become weights, rounded.
  __device__ __forceinline__ void raise(Scores& score, int tile, int query, int slot, Rounded& weight) const {
    if (tile & 1) {
#pragma unroll
      for (int m = 0; m < S::kTiles; ++m) {
        const VisibleRows* const own = a.rows.key + work.block * kKeyBlock + row() + 16 * m;
        const VisibleRows key[2] = {own[0], own[8]};
        hide(score[m], a.rows.q_row + query, key);
      }
    }
#pragma unroll
    for (int n = 0; n < S::kColumns / 8; ++n) {
      const float2 log_sum = load_pair(columns(place.log_sums(slot)) + 32 * n);
#pragma unroll
      for (int m = 0; m < S::kTiles; ++m)
#pragma unroll
        for (int i = 4 * n; i < 4 * n + 4; ++i)
          score[m][i] = exp2_fast(fmaf(score[m][i], scale, i % 2 == 0 ? -log_sum.x : -log_sum.y));
    }
#pragma unroll
    for (int m = 0; m < S::kTiles; ++m) round_into<T>(score[m], weight[m]);
  }

  /// The weights' gradients become those of the scores, without the scale, rounded.
  __device__ __forceinline__ void differentiate(Scores& grad, const Rounded& weight, int slot,
                                                Rounded& score_grad) const {
#pragma unroll
    for (int n = 0; n < S::kColumns / 8; ++n) {
      const float2 delta = load_pair(columns(place.deltas(slot)) + 32 * n);
#pragma unroll
      for (int m = 0; m < S::kTiles; ++m)
#pragma unroll
        for (int i = 4 * n; i < 4 * n + 4; i += 2) {
          grad[m][i] = low_of(weight[m][i / 2], T{}) * (grad[m][i] - delta.x);
          grad[m][i + 1] = high_of(weight[m][i / 2], T{}) * (grad[m][i + 1] - delta.y);
        }
    }
#pragma unroll
    for (int m = 0; m < S::kTiles; ++m) round_into<T>(grad[m], score_grad[m]);
  }

  __device__ __forceinline__ void compute(int step, int slot) {
    const auto [tile, head, query] = step_of(step);
    const uint32_t own = row_of_warp<S>() * Rows::kRowBytes;
    Scores score;
    Rounded weight;
    multiply_heads<T, kHead>(score, place.keys + own, place.queries(slot));
    raise(score, tile, query, slot, weight);
    if constexpr ((kSums & kValueSums) != 0) add_product<T, kHead>(dv, weight, place.grads(slot));
    if constexpr ((kSums & kKeySums) != 0) {
      Rounded score_grad;
      multiply_heads<T, kHead>(score, place.values() + own, place.grads(slot));
      differentiate(score, weight, slot, score_grad);
      add_product<T, kHead>(dk, score_grad, place.queries(slot));
    }
  }

  __device__ __forceinline__ void run() {
    if (steps.count > 0) {
      copy_rows<kHead, S::kRows, kPortableThreads>(place.keys, a.k, steps.key_head, first_row);
      if constexpr ((kSums & kKeySums) != 0)
        copy_rows<kHead, S::kRows, kPortableThreads>(place.values(), a.v, steps.key_head, first_row);
    }
    go_through<S::kSlots>(
        steps.count * kSteps, [&](int step, int slot) { send(step, slot); },
        [&](int step, int slot) { compute(step, slot); });
  }

  /// dk, or dv by `which`: the rows of the result, or of this part's sums.
  template <typename Sum>
  __device__ __forceinline__ void store(int which, void* result, const Sum& sum, float factor) const {
    const float factors[2] = {factor, factor};
    const int64_t rows = a.cut.blocks * kKeyBlock;
    float* const partial = a.partial + (2 * steps.part + which) * rows * a.k.heads * kHead;
#pragma unroll
    for (int m = 0; m < S::kTiles; ++m)
      if (steps.is_cut)
        store_rows<float>(partial, sum[m], factors, blockIdx.y * kKeyBlock + row() + 16 * m, rows, steps.key_head,
                          a.k.heads);
      else
        store_result<T>(a.result, result, sum[m], factors, work.block * kKeyBlock + row() + 16 * m, a.k.rows,
                        steps.key_head, a.k.heads);
  }
  __device__ __forceinline__ void store() const {
    if constexpr ((kSums & kKeySums) != 0) store(0, a.dk, dk, a.scale);
    if constexpr ((kSums & kValueSums) != 0) store(1, a.dv, dv, 1);
  }
};

template <typename T, int kHead, int kSums>
__device__ __forceinline__ void run_keys(const TreeAttentionBackwardArguments& a, uint32_t memory, int64_t padded) {
  KeysBlock<T, kHead, kSums> block{a, {memory}, padded};
  if (!block.steps.is_here || block.first_row >= a.k.rows) return;
  block.run();
  block.store();
}

template <typename T, int kHead>
__global__ void __launch_bounds__(kPortableThreads, 1)
    portable_attention_key_gradients(const __grid_constant__ TreeAttentionBackwardArguments a, int64_t padded) {
  extern __shared__ __align__(128) unsigned char memory[];
  const auto begin = static_cast<uint32_t>(__cvta_generic_to_shared(memory));
  if constexpr (kBlocksOfSums<kHead> == 2)
    if (blockIdx.z % 2 == 1) return run_keys<T, kHead, kKeySums>(a, begin, padded);
  run_keys<T, kHead, kSumsOfBlock<kHead>>(a, begin, padded);
}

template <typename Kernel>
cudaError_t launch(Kernel kernel, const dim3& grid, uint32_t bytes, const TreeAttentionBackwardArguments& a,
                   cudaStream_t stream) {
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  if (error != cudaSuccess) return error;
  kernel<<<grid, kPortableThreads, bytes, stream>>>(a, padded_queries(a));
  return cudaGetLastError();
}

template <typename T, int kHead>
cudaError_t launch_query_pass(const TreeAttentionBackwardArguments& a, cudaStream_t stream) {
  const dim3 grid = portable_grid<QueriesShape<kHead>>(a.q.heads * a.query_cut.parts, a.by_query, kQueryBlock);
  const cudaError_t error =
      launch(portable_attention_query_gradients<T, kHead>, grid, QueriesBlock<T, kHead>::kBytes, a, stream);
  return error != cudaSuccess ? error : launch_query_part_sums(a, stream);
}

template <typename T, int kHead>
cudaError_t launch_key_pass(const TreeAttentionBackwardArguments& a, cudaStream_t stream) {
  dim3 grid = portable_grid<KeysShape<T, kHead>>(a.k.heads * a.cut.parts, a.by_key, kKeyBlock);
  grid.z *= kBlocksOfSums<kHead>;
  const cudaError_t error =
      launch(portable_attention_key_gradients<T, kHead>, grid, KeysMemory<T, kHead>::kBytes, a, stream);
  return error != cudaSuccess ? error : launch_part_sums(a, stream);
}

}  // namespace

cudaError_t launch_portable_attention_backward(const TreeAttentionBackwardArguments& a, cudaStream_t stream) {
  return with_factor(a.element, [&](auto factor) {
    return with_head_size(a.q.size, [&](auto head) {
      using T = decltype(factor);
      if (a.q.heads == 0) return cudaSuccess;
      if (a.q.rows > 0) {
        if (const cudaError_t error = launch_row_sums(a, stream); error != cudaSuccess) return error;
        if (const cudaError_t error = launch_query_pass<T, head()>(a, stream); error != cudaSuccess) return error;
      }
      return a.k.rows > 0 ? launch_key_pass<T, head()>(a, stream) : cudaSuccess;
    });
  });
}

}  // namespace fpdist::kernels
