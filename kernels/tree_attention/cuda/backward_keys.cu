// tree_attention, backward by keys. A block has 128 keys of one key head and goes through its tiles of 64 queries, each
// for all query heads that share the keys: blocks that run at the same time stay at the same tiles. Scores lie
// [keys][queries]: raised to their powers and rounded they are the left side of dV += P^T dO in the registers that they
// are in, and so are their gradients of dK += dS^T Q. Also where the backward's kernels are queued.
#include <cuda_runtime.h>

#include "kernels/tree_attention/cuda/backward.hpp"
#include "kernels/tree_attention/cuda/block.cuh"
#include "kernels/tree_attention/cuda/softmax.cuh"

namespace fpdist::kernels {
namespace {

constexpr int kStages = 4;  // a tile's queries stay until its dK is there, a tile later
constexpr int kBarriers = 1 + 2 * kStages;

/// Addresses in shared memory.
template <int kHead>
struct KeysPlace {
  static constexpr uint32_t kKeyBytes = kTileBytes<kKeyBlock, kHead>, kQueryBytes = kTileBytes<kQueriesOfTile, kHead>;
  static constexpr uint32_t kSumBytes = kQueriesOfTile * sizeof(float);
  static constexpr uint32_t kSlotBytes = 2 * kQueryBytes + 2 * kSumBytes;
  static constexpr uint32_t kBytes = 2 * kKeyBytes + kStages * kSlotBytes;
  uint32_t tiles, barriers;
  __device__ __forceinline__ uint32_t keys(int group) const { return tiles + group * kPanelBytes<kRowsOfGroup>; }
  __device__ __forceinline__ uint32_t values(int group) const { return keys(group) + kKeyBytes; }
  __device__ __forceinline__ uint32_t queries(uint32_t slot) const {
    return tiles + 2 * kKeyBytes + slot * 2 * kQueryBytes;
  }
  __device__ __forceinline__ uint32_t grads(uint32_t slot) const { return queries(slot) + kQueryBytes; }
  __device__ __forceinline__ uint32_t log_sums(uint32_t slot) const { return queries(kStages) + slot * 2 * kSumBytes; }
  __device__ __forceinline__ uint32_t deltas(uint32_t slot) const { return log_sums(slot) + kSumBytes; }
  __device__ __forceinline__ uint32_t keys_full() const { return barriers; }
  __device__ __forceinline__ Ring<kStages> ring() const { return {barriers + 8}; }
};

/// One thread.
template <int kHead>
__device__ __forceinline__ void produce(const BackwardMaps& maps, const TreeAttentionBackwardArguments& a,
                                        int64_t padded, const TileWork& work, const KeysPlace<kHead>& place) {
  using P = KeysPlace<kHead>;
  const KeySteps steps(a, work);
  if (steps.count == 0) return;
  arrive_expecting(place.keys_full(), 2 * P::kKeyBytes);
  copy_tile<kKeyBlock, kHead>(place.keys(0), maps.k, place.keys_full(), steps.key_head, work.block * kKeyBlock);
  copy_tile<kKeyBlock, kHead>(place.values(0), maps.v, place.keys_full(), steps.key_head, work.block * kKeyBlock);
  Ring<kStages> ring = place.ring();
  const int group = a.q.heads / a.k.heads;
  const int32_t* list = a.by_key.tile + work.first + steps.begin / group;
  int member = steps.begin % group;
#pragma unroll 1
  for (int step = 0; step < steps.count; ++step) {
    const int row = (__ldg(list) >> 1) * kQueriesOfTile, head = steps.key_head * group + member;
    const float* const sums = a.row_sums + head * padded + row;
    ring.wait_empty();
    arrive_expecting(ring.full(), P::kSlotBytes);
    copy_tile<kQueriesOfTile, kHead>(place.queries(ring.slot()), maps.q, ring.full(), head, row);
    copy_bytes(place.log_sums(ring.slot()), sums, P::kSumBytes, ring.full());
    copy_tile<kQueriesOfTile, kHead>(place.grads(ring.slot()), maps.grad_out, ring.full(), head, row);
    copy_bytes(place.deltas(ring.slot()), sums + a.q.heads * padded, P::kSumBytes, ring.full());
    ring.advance();
    if (++member == group) member = 0, ++list;
  }
}

/// One warpgroup's 64 keys. The tensor cores have a tile's scores, the gradients of its weights and dK of the tile
/// before at once: the scores are raised to their powers while the rest goes on, and the scores' gradients are computed
/// while dV adds up. Registers are full: what the two rows' numbers, places and loops take is counted.
template <int kHead, typename T>
struct KeysGroup {
  static constexpr int kScores = kQueriesOfTile / 2;
  static constexpr uint32_t kKeyPanel = kPanelBytes<kKeyBlock>, kQueryPanel = kPanelBytes<kQueriesOfTile>;
  const TreeAttentionBackwardArguments& a;
  const TileWork& work;
  const KeysPlace<kHead>& place;
  const int group;
  const float& log2_scale;  // where the kernel's arguments are
  Ring<kStages> ring = place.ring();
  float dk[kHead / 2] = {}, dv[kHead / 2] = {}, score[kScores], grad[kScores];
  uint32_t weight[kScores / 2], score_grad[kScores / 2];  // as the left sides of dV and of dK
  uint32_t own_weight[kScores / 2];                       // the weights again, while dV is under way

  __device__ __forceinline__ int first_row() const { return work.block * kKeyBlock + row_of_thread(group); }
  /// Where a lane's first column of a tile is in a row of floats.
  static __device__ __forceinline__ uint32_t columns(uint32_t floats) { return floats + threadIdx.x % 4 * 8; }

  __device__ __forceinline__ void multiply_scores() {
    ring.wait_full();
    // Or the compiler keeps all descriptors of keys and values over the loop, in registers that are not there.
    uint32_t keys = place.keys(group);
    asm volatile("" : "+r"(keys));
    pin(score), pin(grad);
    fence_products();
    multiply_heads<kHead>(score, keys, kKeyPanel, place.queries(ring.slot()), kQueryPanel);
    commit_products();
    multiply_heads<kHead>(grad, keys + KeysPlace<kHead>::kKeyBytes, kKeyPanel, place.grads(ring.slot()), kQueryPanel);
    commit_products();
  }
  /// Of the tile before.
  __device__ __forceinline__ void add_keys() {
    pin(score_grad), pin(dk);
    fence_products();
    add_product(dk, score_grad, place.queries(ring.slot_before()), kQueryPanel);
    commit_products();
  }
  __device__ __forceinline__ void add_values() {
    pin(weight), pin(dv);
    fence_products();
    add_product(dv, weight, place.grads(ring.slot()), kQueryPanel);
    commit_products();
  }

  /// Scores become weights, rounded.
  __device__ __forceinline__ void raise(int tile) {
    pin(score);
    if (tile & 1) {
      const VisibleRows* const own = a.rows.key + first_row();
      const VisibleRows key[2] = {own[0], own[8]};
      hide(score, a.rows.q_row + (tile >> 1) * kQueriesOfTile, key);
    }
    const uint32_t log_sums = columns(place.log_sums(ring.slot()));
#pragma unroll
    for (int n = 0; n < kScores / 4; ++n) {
      const float2 log_sum = load_pair(log_sums + 32 * n);
#pragma unroll
      for (int i = 0; i < 4; ++i)
        score[4 * n + i] = exp2_fast(fmaf(score[4 * n + i], log2_scale, i % 2 == 0 ? -log_sum.x : -log_sum.y));
    }
    round_into(score, weight);
#pragma unroll
    for (int i = 0; i < kScores / 2; ++i) asm volatile("mov.b32 %0, %1;" : "=r"(own_weight[i]) : "r"(weight[i]));
  }
  /// The weights' gradients become those of the scores, without the scale.
  __device__ __forceinline__ void differentiate() {
    const uint32_t deltas = columns(place.deltas(ring.slot()));
#pragma unroll
    for (int n = 0; n < kScores / 4; ++n) {
      const float2 delta = load_pair(deltas + 32 * n);
#pragma unroll
      for (int i = 4 * n; i < 4 * n + 4; i += 2) {
        grad[i] = low_of(own_weight[i / 2]) * (grad[i] - delta.x);
        grad[i + 1] = high_of(own_weight[i / 2]) * (grad[i + 1] - delta.y);
      }
    }
  }

  __device__ __forceinline__ void first_tile(int tile) {
    multiply_scores();
    wait_products<1>();
    raise(tile);
    add_values();
    wait_products<1>();
    pin(grad);
    differentiate();
    round_into(grad, score_grad);
    wait_products<0>();
    pin(dv), pin(weight);
    ring.advance();
  }
  __device__ __forceinline__ void next_tile(int tile) {
    multiply_scores();
    add_keys();
    wait_products<2>();
    raise(tile);
    add_values();
    wait_products<1>();
    pin(grad), pin(dk), pin(score_grad);
    release(ring.empty_before());
    differentiate();
    round_into(grad, score_grad);
    wait_products<0>();
    pin(dv), pin(weight);
    ring.advance();
  }
  __device__ __forceinline__ void last_keys() {
    add_keys();
    wait_products<0>();
    pin(dk), pin(score_grad);
    release(ring.empty_before());
  }

  __device__ __forceinline__ void store() const {
    const float ones[2] = {1, 1}, scales[2] = {a.scale, a.scale};
    const KeySteps steps(a, work);
    if (!steps.is_cut) {
      store_rows<T>(a.dk, dk, scales, first_row(), a.k.rows, steps.key_head, a.k.heads);
      store_rows<T>(a.dv, dv, ones, first_row(), a.k.rows, steps.key_head, a.k.heads);
      return;
    }
    const int64_t rows = a.cut.blocks * kKeyBlock, row = blockIdx.y * kKeyBlock + row_of_thread(group);
    float* const to = a.partial + 2 * steps.part * rows * a.k.heads * kHead;
    store_rows<float>(to, dk, scales, row, rows, steps.key_head, a.k.heads);
    store_rows<float>(to + rows * a.k.heads * kHead, dv, ones, row, rows, steps.key_head, a.k.heads);
  }
};

template <int kHead, typename T>
__device__ __forceinline__ void consume(const TreeAttentionBackwardArguments& a, const TileWork& work,
                                        const KeysPlace<kHead>& place, int group, const float& log2_scale) {
  KeysGroup<kHead, T> group_work{a, work, place, group, log2_scale};
  const KeySteps steps(a, work);
  if (int left = steps.count; left > 0) {
    wait(place.keys_full(), 0);
    const int group_heads = a.q.heads / a.k.heads;
    const int32_t* list = a.by_key.tile + work.first + steps.begin / group_heads;
    int end = left - (group_heads - steps.begin % group_heads);  // steps left when the next tile begins
    group_work.first_tile(__ldg(list));
    --left;
#pragma unroll 1
    while (left > 0) {
      if (left == end) ++list, end -= group_heads;
      const int tile = __ldg(list);
#pragma unroll 1
      for (const int stop = end > 0 ? end : 0; left > stop; --left) group_work.next_tile(tile);
    }
    group_work.last_keys();
  }
  group_work.store();
}

template <int kHead, typename T>
__global__ void __launch_bounds__(kThreads, 1)
    tree_attention_key_gradients(const __grid_constant__ BackwardMaps maps,
                                 const __grid_constant__ TreeAttentionBackwardArguments a, int64_t padded,
                                 const __grid_constant__ float log2_scale) {
  extern __shared__ __align__(kAtomBytes) unsigned char tiles[];
  __shared__ __align__(8) uint64_t barriers[kBarriers];
  if (const TileWork work(a.by_key); !KeySteps(a, work).is_here) return;
  const KeysPlace<kHead> place{shared_address(tiles), shared_address(barriers)};
  if (threadIdx.x == 0) {
    initialise(place.keys_full(), 1);
    place.ring().initialise_all(4 * kConsumers);
    publish_barriers();
  }
  __syncthreads();
  if (const int group = warpgroup(); group == 0) {
    give_registers<kProducerRegisters>();
    if (threadIdx.x == 0) produce<kHead>(maps, a, padded, TileWork(a.by_key), place);
  } else {
    take_registers<kConsumerRegisters>();
    consume<kHead, T>(a, TileWork(a.by_key), place, group - 1, log2_scale);
  }
}

template <int kHead, typename T>
cudaError_t launch(const TreeAttentionBackwardArguments& a, cudaStream_t stream) {
  BackwardMaps maps;
  if (const cudaError_t error = make_maps(a, kQueriesOfTile, kKeyBlock, maps); error != cudaSuccess) return error;
  constexpr auto kBytes = static_cast<int>(KeysPlace<kHead>::kBytes);
  const cudaError_t error =
      cudaFuncSetAttribute(tree_attention_key_gradients<kHead, T>, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  if (error != cudaSuccess) return error;
  tree_attention_key_gradients<kHead, T><<<grid_of(a.k.heads * a.cut.parts, a.by_key), kThreads, kBytes, stream>>>(
      maps, a, padded_queries(a), a.scale * kLog2E);
  return cudaGetLastError();
}

}  // namespace

cudaError_t launch_key_gradients(const TreeAttentionBackwardArguments& a, cudaStream_t stream) {
  return with_element(a.result, [&](auto element) {
    using T = decltype(element);
    return a.q.size == 64 ? launch<64, T>(a, stream) : launch<128, T>(a, stream);
  });
}

cudaError_t launch_tree_attention_backward(const TreeAttentionBackwardArguments& a, cudaStream_t stream) {
  if (a.q.size != 64 && a.q.size != 128) return cudaErrorInvalidValue;
  if (a.q.heads == 0) return cudaSuccess;
  if (a.q.rows > 0) {
    if (const cudaError_t error = launch_row_sums(a, stream); error != cudaSuccess) return error;
    if (const cudaError_t error = launch_query_gradients(a, stream); error != cudaSuccess) return error;
  }
  if (a.k.rows == 0) return cudaSuccess;
  const cudaError_t error = launch_key_gradients(a, stream);
  return error != cudaSuccess ? error : launch_part_sums(a, stream);
}

}  // namespace fpdist::kernels
