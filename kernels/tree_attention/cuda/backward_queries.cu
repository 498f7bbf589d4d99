// tree_attention, backward by queries. A block has 128 queries of one head and goes through its tiles of 64 keys: the
// scores once more, their gradients, and dQ += dS K.
#include <cuda_runtime.h>

#include "kernels/tree_attention/cuda/backward.hpp"
#include "kernels/tree_attention/cuda/block.cuh"
#include "kernels/tree_attention/cuda/softmax.cuh"

namespace fpdist::kernels {
namespace {

constexpr int kStages = 4;  // a tile's keys stay until its dQ is there, a tile later
constexpr int kBarriers = 1 + 2 * kStages;

/// Addresses in shared memory.
template <int kHead>
struct QueriesPlace {
  static constexpr uint32_t kQueryBytes = kTileBytes<kQueryBlock, kHead>,
                            kKeyBytes = kTileBytes<kKeysOfBackwardTile, kHead>;
  static constexpr uint32_t kBytes = 2 * kQueryBytes + 2 * kStages * kKeyBytes;
  uint32_t tiles, barriers;
  __device__ __forceinline__ uint32_t queries(int group) const { return tiles + group * kPanelBytes<kRowsOfGroup>; }
  __device__ __forceinline__ uint32_t grads(int group) const { return queries(group) + kQueryBytes; }
  __device__ __forceinline__ uint32_t keys(uint32_t slot) const {
    return tiles + 2 * kQueryBytes + slot * 2 * kKeyBytes;
  }
  __device__ __forceinline__ uint32_t values(uint32_t slot) const { return keys(slot) + kKeyBytes; }
  __device__ __forceinline__ uint32_t queries_full() const { return barriers; }
  __device__ __forceinline__ Ring<kStages> ring() const { return {barriers + 8}; }
};

/// One thread.
template <int kHead>
__device__ __forceinline__ void produce(const BackwardMaps& maps, const TreeAttentionBackwardArguments& a,
                                        const TileWork& work, const QueriesPlace<kHead>& place) {
  using P = QueriesPlace<kHead>;
  if (work.tiles == 0) return;
  const int key_head = work.head / (a.q.heads / a.k.heads), query = work.block * kQueryBlock;
  arrive_expecting(place.queries_full(), 2 * P::kQueryBytes);
  copy_tile<kQueryBlock, kHead>(place.queries(0), maps.q, place.queries_full(), work.head, query);
  copy_tile<kQueryBlock, kHead>(place.grads(0), maps.grad_out, place.queries_full(), work.head, query);
  Ring<kStages> ring = place.ring();
  const int32_t* const list = a.by_query.tile + work.first;
#pragma unroll 1
  for (int t = 0; t < work.tiles; ++t) {
    const int row = (__ldg(list + t) >> 1) * kKeysOfBackwardTile;
    ring.wait_empty();
    arrive_expecting(ring.full(), 2 * P::kKeyBytes);
    copy_tile<kKeysOfBackwardTile, kHead>(place.keys(ring.slot()), maps.k, ring.full(), key_head, row);
    copy_tile<kKeysOfBackwardTile, kHead>(place.values(ring.slot()), maps.v, ring.full(), key_head, row);
    ring.advance();
  }
}

/// One warpgroup's 64 queries. The tensor cores have a tile's scores, the gradients of its weights and dQ of the tile
/// before at once, while the scores become weights and then gradients.
template <int kHead, typename T>
struct QueriesGroup {
  static constexpr int kScores = kKeysOfBackwardTile / 2;
  static constexpr uint32_t kQueryPanel = kPanelBytes<kQueryBlock>, kKeyPanel = kPanelBytes<kKeysOfBackwardTile>;
  const TreeAttentionBackwardArguments& a;
  const TileWork& work;
  const QueriesPlace<kHead>& place;
  const int group;
  const int64_t padded;
  const float scale = a.scale * kLog2E;
  const int row = work.block * kQueryBlock + row_of_thread(group);
  const int32_t q_row[2] = {__ldg(a.rows.q_row + row), __ldg(a.rows.q_row + row + 8)};
  const float* const sums = a.row_sums + work.head * padded + row;
  const float log_sum[2] = {sums[0], sums[8]};
  const float delta[2] = {sums[a.q.heads * padded], sums[a.q.heads * padded + 8]};
  Ring<kStages> ring = place.ring();
  float dq[kHead / 2] = {}, score[kScores], grad[kScores];
  uint32_t score_grad[kScores / 2];  // as the left side of dQ

  __device__ __forceinline__ void multiply_scores() {
    ring.wait_full();
    pin(score), pin(grad);
    fence_products();
    multiply_heads<kHead>(score, place.queries(group), kQueryPanel, place.keys(ring.slot()), kKeyPanel);
    commit_products();
    multiply_heads<kHead>(grad, place.grads(group), kQueryPanel, place.values(ring.slot()), kKeyPanel);
    commit_products();
  }
  /// Of the tile before.
  __device__ __forceinline__ void add_queries() {
    pin(score_grad), pin(dq);
    fence_products();
    add_product(dq, score_grad, place.keys(ring.slot_before()), kKeyPanel);
    commit_products();
  }
  /// Scores become weights.
  __device__ __forceinline__ void raise(int tile) {
    pin(score);
    if (tile & 1) hide(score, a.rows.key + (tile >> 1) * kKeysOfBackwardTile, q_row);
#pragma unroll
    for (int i = 0; i < kScores; ++i) score[i] = exp2_fast(fmaf(score[i], scale, -log_sum[i / 2 % 2]));
  }
  /// The weights' gradients become those of the scores, without the scale.
  __device__ __forceinline__ void differentiate() {
    pin(grad);
#pragma unroll
    for (int i = 0; i < kScores; ++i) grad[i] = score[i] * (grad[i] - delta[i / 2 % 2]);
  }

  __device__ __forceinline__ void first_tile(int tile) {
    multiply_scores();
    wait_products<1>();
    raise(tile);
    wait_products<0>();
    differentiate();
    round_into(grad, score_grad);
    ring.advance();
  }
  __device__ __forceinline__ void next_tile(int tile) {
    multiply_scores();
    add_queries();
    wait_products<2>();
    raise(tile);
    wait_products<1>();
    differentiate();
    wait_products<0>();
    pin(dq), pin(score_grad);
    release(ring.empty_before());
    round_into(grad, score_grad);
    ring.advance();
  }
  __device__ __forceinline__ void last_queries() {
    add_queries();
    wait_products<0>();
    pin(dq), pin(score_grad);
    release(ring.empty_before());
  }

  __device__ __forceinline__ void store() const {
    const float scales[2] = {a.scale, a.scale};
    store_rows<T>(a.dq, dq, scales, row, a.q.rows, work.head, a.q.heads);
  }
};

template <int kHead, typename T>
__device__ __forceinline__ void consume(const TreeAttentionBackwardArguments& a, const TileWork& work,
                                        const QueriesPlace<kHead>& place, int group, int64_t padded) {
  QueriesGroup<kHead, T> group_work{a, work, place, group, padded};
  if (work.tiles > 0) {
    wait(place.queries_full(), 0);
    const int32_t* const list = a.by_query.tile + work.first;
    group_work.first_tile(__ldg(list));
#pragma unroll 1
    for (int t = 1; t < work.tiles; ++t) group_work.next_tile(__ldg(list + t));
    group_work.last_queries();
  }
  group_work.store();
}

template <int kHead, typename T>
__global__ void __launch_bounds__(kThreads, 1)
    tree_attention_query_gradients(const __grid_constant__ BackwardMaps maps,
                                   const __grid_constant__ TreeAttentionBackwardArguments a, int64_t padded) {
  extern __shared__ __align__(kAtomBytes) unsigned char tiles[];
  __shared__ __align__(8) uint64_t barriers[kBarriers];
  const QueriesPlace<kHead> place{shared_address(tiles), shared_address(barriers)};
  const TileWork work(a.by_query);
  if (threadIdx.x == 0) {
    initialise(place.queries_full(), 1);
    place.ring().initialise_all(4 * kConsumers);
    publish_barriers();
  }
  __syncthreads();
  if (const int group = warpgroup(); group == 0) {
    give_registers<kProducerRegisters>();
    if (threadIdx.x == 0) produce<kHead>(maps, a, work, place);
  } else {
    take_registers<kConsumerRegisters>();
    consume<kHead, T>(a, work, place, group - 1, padded);
  }
}

template <int kHead, typename T>
cudaError_t launch(const TreeAttentionBackwardArguments& a, cudaStream_t stream) {
  BackwardMaps maps;
  if (const cudaError_t error = make_maps(a, kQueryBlock, kKeysOfBackwardTile, maps); error != cudaSuccess)
    return error;
  constexpr auto kBytes = static_cast<int>(QueriesPlace<kHead>::kBytes);
  const cudaError_t error = cudaFuncSetAttribute(tree_attention_query_gradients<kHead, T>,
                                                 cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  if (error != cudaSuccess) return error;
  tree_attention_query_gradients<kHead, T>
      <<<grid_of(a.q.heads, a.by_query), kThreads, kBytes, stream>>>(maps, a, padded_queries(a));
  return cudaGetLastError();
}

}  // namespace

cudaError_t launch_query_gradients(const TreeAttentionBackwardArguments& a, cudaStream_t stream) {
  return with_element(a.result, [&](auto element) {
    using T = decltype(element);
    return a.q.size == 64 ? launch<64, T>(a, stream) : launch<128, T>(a, stream);
  });
}

}  // namespace fpdist::kernels
