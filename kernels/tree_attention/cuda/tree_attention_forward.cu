// tree_attention, forward. A block has 128 queries of one head and goes through its tiles of 128 keys. In a warpgroup
// the tensor cores have the scores of the next tile and the outputs of this one at once, while it raises the next one's
// scores to their powers; and the two warpgroups take turns in giving them work, so that one's softmax goes along with
// the other's products.
#include <cuda_runtime.h>

#include "kernels/tree_attention/cuda/block.cuh"
#include "kernels/tree_attention/cuda/softmax.cuh"

namespace fpdist::kernels {
namespace {

constexpr int kStages = 2;
constexpr int kTurn = 1;  // barriers: whose turn it is; 0 is __syncthreads'
constexpr int kBarriers = 1 + 4 * kStages;

/// Addresses in shared memory.
template <int kHead>
struct ForwardPlace {
  static constexpr uint32_t kQueryBytes = kTileBytes<kQueryBlock, kHead>, kKeyBytes = kTileBytes<kKeysOfTile, kHead>;
  static constexpr uint32_t kBytes = kQueryBytes + 2 * kStages * kKeyBytes;
  uint32_t tiles, barriers;
  __device__ __forceinline__ uint32_t queries(int group) const { return tiles + group * kPanelBytes<kRowsOfGroup>; }
  __device__ __forceinline__ uint32_t keys(uint32_t slot) const { return tiles + kQueryBytes + slot * kKeyBytes; }
  __device__ __forceinline__ uint32_t values(uint32_t slot) const { return keys(kStages + slot); }
  __device__ __forceinline__ uint32_t queries_full() const { return barriers; }
  __device__ __forceinline__ Ring<kStages> key_ring() const { return {barriers + 8}; }
  __device__ __forceinline__ Ring<kStages> value_ring() const { return {barriers + 8 + kStages * 16}; }
};

struct ForwardMaps {
  CUtensorMap q, k, v;
};

/// One thread. Values come a tile behind the keys, as they are needed.
template <int kHead>
__device__ __forceinline__ void produce(const ForwardMaps& maps, const TreeAttentionArguments& a, const TileWork& work,
                                        const ForwardPlace<kHead>& place) {
  if (work.tiles == 0) return;
  const int key_head = work.head / (a.q.heads / a.k.heads);
  arrive_expecting(place.queries_full(), ForwardPlace<kHead>::kQueryBytes);
  copy_tile<kQueryBlock, kHead>(place.queries(0), maps.q, place.queries_full(), work.head, work.block * kQueryBlock);
  Ring<kStages> keys = place.key_ring(), values = place.value_ring();
  const auto send = [&](Ring<kStages>& ring, uint32_t to, const CUtensorMap& map, int row) {
    ring.wait_empty();
    arrive_expecting(ring.full(), ForwardPlace<kHead>::kKeyBytes);
    copy_tile<kKeysOfTile, kHead>(to, map, ring.full(), key_head, row);
    ring.advance();
  };
  const int32_t* const list = a.by_query.tile + work.first;
  int row = (__ldg(list) >> 1) * kKeysOfTile;
  send(keys, place.keys(keys.slot()), maps.k, row);
#pragma unroll 1
  for (int t = 1; t < work.tiles; ++t) {
    const int next = (__ldg(list + t) >> 1) * kKeysOfTile;
    send(keys, place.keys(keys.slot()), maps.k, next);
    send(values, place.values(values.slot()), maps.v, row);
    row = next;
  }
  send(values, place.values(values.slot()), maps.v, row);
}

/// One warpgroup's 64 queries.
template <int kHead, typename T>
struct ForwardGroup {
  const TreeAttentionArguments& a;
  const TileWork& work;
  const ForwardPlace<kHead>& place;
  const int group;
  const float scale = a.scale * kLog2E;
  const int row = work.block * kQueryBlock + row_of_thread(group);
  const int32_t q_row[2] = {__ldg(a.rows.q_row + row), __ldg(a.rows.q_row + row + 8)};
  const int32_t* const list = a.by_query.tile + work.first;
  Ring<kStages> keys = place.key_ring(), values = place.value_ring();
  RunningSoftmax softmax{};
  float out[kHead / 2] = {};
  uint32_t weight[kKeysOfTile / 4];

  __device__ __forceinline__ void multiply_scores(float (&score)[kKeysOfTile / 2]) const {
    multiply_heads<kHead>(score, place.queries(group), kPanelBytes<kQueryBlock>, place.keys(keys.slot()),
                          kPanelBytes<kKeysOfTile>);
    commit_products();
  }
  __device__ __forceinline__ void multiply_values() {
    add_product(out, weight, place.values(values.slot()), kPanelBytes<kKeysOfTile>);
    commit_products();
  }
  /// Of tile t; the scores are there, and its keys are no longer needed.
  __device__ __forceinline__ void raise(float (&score)[kKeysOfTile / 2], int tile, float (&kept)[2]) {
    pin(score);
    release(keys.empty());
    keys.advance();
    if (tile & 1) hide(score, a.rows.key + (tile >> 1) * kKeysOfTile, q_row);
    softmax.take(score, scale, kept);
  }

  __device__ __forceinline__ void first_tile() {
    float score[kKeysOfTile / 2], kept[2];
    const int tile = __ldg(list);
    if (group == 1 && work.tiles > 1) let_pass(kTurn, 2 * kGroupThreads);  // the other one begins
    wait(place.queries_full(), 0);
    keys.wait_full();
    fence_products();
    multiply_scores(score);
    wait_products<0>();
    raise(score, tile, kept);
    round_into(score, weight);
  }

  /// Scores of tile t, and the outputs of the one before.
  __device__ __forceinline__ void next_tile(int t) {
    float score[kKeysOfTile / 2], kept[2];
    const int tile = __ldg(list + t);
    keys.wait_full();
    meet(kTurn + group, 2 * kGroupThreads);
    pin(out), pin(weight);
    fence_products();
    multiply_scores(score);
    values.wait_full();
    fence_products();
    multiply_values();
    if (group == 0 || t + 1 < work.tiles) let_pass(kTurn + (group ^ 1), 2 * kGroupThreads);
    wait_products<1>();
    raise(score, tile, kept);
    wait_products<0>();
    pin(out), pin(weight);
    release(values.empty());
    values.advance();
    round_into(score, weight);
#pragma unroll
    for (int i = 0; i < kHead / 2; ++i) out[i] *= kept[i / 2 % 2];
  }

  __device__ __forceinline__ void last_values() {
    values.wait_full();
    pin(out), pin(weight);
    fence_products();
    multiply_values();
    wait_products<0>();
    pin(out);
    release(values.empty());
  }

  __device__ __forceinline__ void store() {
    float factor[2], lse[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) factor[half] = softmax.finish(half, scale, lse[half]);
    store_rows<T>(a.out, out, factor, row, a.q.rows, work.head, a.q.heads);
#pragma unroll
    for (int half = 0; half < 2; ++half)
      if (threadIdx.x % 4 == 0 && row + 8 * half < a.q.rows)
        a.lse[static_cast<int64_t>(row + 8 * half) * a.q.heads + work.head] = lse[half];
  }
};

template <int kHead, typename T>
__device__ __forceinline__ void consume(const TreeAttentionArguments& a, const TileWork& work,
                                        const ForwardPlace<kHead>& place, int group) {
  ForwardGroup<kHead, T> group_work{a, work, place, group};
  if (work.tiles > 0) {
    group_work.first_tile();
#pragma unroll 1
    for (int t = 1; t < work.tiles; ++t) group_work.next_tile(t);
    group_work.last_values();
  }
  group_work.store();
}

template <int kHead, typename T>
__global__ void __launch_bounds__(kThreads, 1)
    tree_attention_forward(const __grid_constant__ ForwardMaps maps, const __grid_constant__ TreeAttentionArguments a) {
  extern __shared__ __align__(kAtomBytes) unsigned char tiles[];
  __shared__ __align__(8) uint64_t barriers[kBarriers];
  const ForwardPlace<kHead> place{shared_address(tiles), shared_address(barriers)};
  const TileWork work(a.by_query);
  if (threadIdx.x == 0) {
    initialise(place.queries_full(), 1);
    place.key_ring().initialise_all(4 * kConsumers);
    place.value_ring().initialise_all(4 * kConsumers);
    publish_barriers();
  }
  __syncthreads();
  if (const int group = warpgroup(); group == 0) {
    give_registers<kProducerRegisters>();
    if (threadIdx.x == 0) produce<kHead>(maps, a, work, place);
  } else {
    take_registers<kConsumerRegisters>();
    consume<kHead, T>(a, work, place, group - 1);
  }
}

template <int kHead, typename T>
cudaError_t launch(const TreeAttentionArguments& a, cudaStream_t stream) {
  ForwardMaps maps;
  if (const cudaError_t error = make_tensor_map(a.q, kQueryBlock, maps.q); error != cudaSuccess) return error;
  if (const cudaError_t error = make_tensor_map(a.k, kKeysOfTile, maps.k); error != cudaSuccess) return error;
  if (const cudaError_t error = make_tensor_map(a.v, kKeysOfTile, maps.v); error != cudaSuccess) return error;
  constexpr auto kBytes = static_cast<int>(ForwardPlace<kHead>::kBytes);
  const cudaError_t error =
      cudaFuncSetAttribute(tree_attention_forward<kHead, T>, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  if (error != cudaSuccess) return error;
  tree_attention_forward<kHead, T><<<grid_of(a.q.heads, a.by_query), kThreads, kBytes, stream>>>(maps, a);
  return cudaGetLastError();
}

}  // namespace

cudaError_t launch_tree_attention(const TreeAttentionArguments& arguments, cudaStream_t stream) {
  if (arguments.q.rows == 0 || arguments.q.heads == 0) return cudaSuccess;
  return with_element(arguments.result, [&](auto element) {
    using T = decltype(element);
    switch (arguments.q.size) {
      case 64:
        return launch<64, T>(arguments, stream);
      case 128:
        return launch<128, T>(arguments, stream);
      default:
        return cudaErrorInvalidValue;
    }
  });
}

}  // namespace fpdist::kernels
