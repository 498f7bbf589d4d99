// tree_attention of decoding steps. A block of threads goes through its chunk of keys by steps: the next step's keys
// and values come from memory while this one's are multiplied. What is behind the chunk's end comes as zeros, and its
// scores are hidden.
#include <cuda_runtime.h>

#include "kernels/cuda/mma.cuh"
#include "kernels/tree_attention/cuda/merge.cuh"
#include "kernels/tree_attention/cuda/rows.cuh"
#include "kernels/tree_attention/cuda/softmax.cuh"
#include "kernels/tree_attention/cuda/work.cuh"
#include "kernels/tree_attention/decode/decode_attention_kernel.hpp"

namespace fpdist::kernels {
namespace {

constexpr int kDecodeThreads = 128, kMergeThreads = 256;
constexpr int kSlots = 2;                   // steps whose keys and values lie in shared memory
constexpr uint32_t kMostShared = 99 << 10;  // what the smallest GPUs from sm_80 on lend a block

/// What a block of threads does. Its rows: the query heads of its head of keys, query after query.
struct DecodeWork {
  int query, queries, key, keys, slot;
  int key_head, group;
  __device__ __forceinline__ explicit DecodeWork(const DecodeArguments& a)
      : key_head(static_cast<int>(blockIdx.y)), group(a.q.heads / a.k.heads) {
    const int32_t* const item = reinterpret_cast<const int32_t*>(a.item + blockIdx.x);
    query = __ldg(item), queries = __ldg(item + 1), key = __ldg(item + 2), keys = __ldg(item + 3);
    slot = __ldg(item + 4);
  }
  __device__ __forceinline__ int rows() const { return queries * group; }
  __device__ __forceinline__ int head_of(int row) const { return key_head * group + row % group; }
  /// Element of q that a row begins with.
  __device__ __forceinline__ int64_t place_in(const HeadsTensor& q, int row) const {
    return (query + row / group) * q.row_stride + head_of(row) * q.head_stride;
  }
  /// Number of a row among all heads of all slots.
  __device__ __forceinline__ int64_t part_of(const HeadsTensor& q, int row) const {
    return static_cast<int64_t>(slot + row / group) * q.heads + head_of(row);
  }
};

/// By the tensor cores: each of four warps has 16 rows.
template <int kHead>
struct CoreBlock {
  using Rows = ChunkedRows<kHead>;
  static constexpr int kRows = static_cast<int>(decode_rows_of_tile(Element::kBFloat16)), kColumns = 64;
  static constexpr uint32_t kQueryBytes = kRows * Rows::kRowBytes, kKeyBytes = kColumns * Rows::kRowBytes;
  static constexpr uint32_t kBytes = kQueryBytes + 2 * kSlots * kKeyBytes;
  static_assert(kBytes <= kMostShared && kRows == 16 * kDecodeThreads / 32);
  const DecodeArguments& a;
  const uint32_t queries;
  const DecodeWork work{a};
  const int first_row = static_cast<int>(threadIdx.x / 32) * 16,
            row = first_row + static_cast<int>(threadIdx.x % 32 / 4);
  const float scale = a.scale * kLog2E;
  RunningSoftmax softmax{};
  float out[1][kHead / 2] = {};

  __device__ __forceinline__ uint32_t keys(int step) const {
    return queries + kQueryBytes + step % kSlots * 2 * kKeyBytes;
  }
  __device__ __forceinline__ uint32_t values(int step) const { return keys(step) + kKeyBytes; }

  __device__ __forceinline__ void send_queries() const {
    const auto* const data = static_cast<const uint16_t*>(a.q.data);
#pragma unroll
    for (int n = 0; n < kRows * Rows::kChunks; n += kDecodeThreads) {
      const int at = n + static_cast<int>(threadIdx.x), own = at / Rows::kChunks, chunk = at % Rows::kChunks;
      const bool is_there = own < work.rows();
      copy_chunk(queries + Rows::offset_of(own, chunk), data + (is_there ? work.place_in(a.q, own) + 8 * chunk : 0),
                 is_there);
    }
  }
  /// Up to the chunk's end.
  __device__ __forceinline__ void send(int step) const {
    HeadsTensor k = a.k, v = a.v;
    k.rows = v.rows = work.key + work.keys;
    copy_rows<kHead, kColumns, kDecodeThreads>(keys(step), k, work.key_head, work.key + step * kColumns);
    copy_rows<kHead, kColumns, kDecodeThreads>(values(step), v, work.key_head, work.key + step * kColumns);
  }

  __device__ __forceinline__ void multiply(int step) {
    float score[1][kColumns / 2], kept[2];
    uint32_t weight[1][kColumns / 4];
    multiply_heads<BFloat16, kHead>(score, queries + first_row * Rows::kRowBytes, keys(step));
    const int left = work.keys - step * kColumns;
    if (left < kColumns) {
#pragma unroll
      for (int i = 0; i < kColumns / 2; ++i)
        if (8 * (i / 4) + static_cast<int>(threadIdx.x % 4) * 2 + i % 2 >= left) score[0][i] = -INFINITY;
    }
    softmax.take(score[0], scale, kept);
    round_into<BFloat16>(score[0], weight[0]);
#pragma unroll
    for (int i = 0; i < kHead / 2; ++i) out[0][i] *= kept[i / 2 % 2];
    add_product<BFloat16, kHead>(out, weight, values(step));
  }

  __device__ __forceinline__ void store() {
    float* const lse_of = a.parts + a.slots * a.q.heads * kHead;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float lse;
      const float factor = softmax.finish(half, scale, lse);
      const int own = row + 8 * half;
      const bool is_there = own < work.rows();
      const int64_t part = is_there ? work.part_of(a.q, own) : 0;
      store_row(is_there ? a.parts + part * kHead : nullptr, out[0], half, factor);
      if (threadIdx.x % 4 == 0 && is_there) lse_of[part] = lse;
    }
  }
  /// Whether the warp has rows at all: the others only copy.
  __device__ __forceinline__ bool is_needed() const { return first_row < work.rows(); }
};

/// In float32 without tensor cores, which would round: eight threads have a row, each every eighth key's score and
/// every eighth four of the outputs.
template <int kHead>
struct PlainBlock {
  static constexpr int kRows = static_cast<int>(decode_rows_of_tile(Element::kFloat32)), kColumns = 32;
  static constexpr int kShare = 8;                    // threads of a row
  static constexpr int kRowFloats = kHead + 4;        // so that eight keys lie in all banks
  static constexpr int kWeightFloats = kColumns + 8;  // likewise four rows
  static constexpr uint32_t kQueryBytes = 4 * kRows * kRowFloats, kWeightBytes = 4 * kRows * kWeightFloats,
                            kKeyBytes = 4 * kColumns * kRowFloats;
  static constexpr uint32_t kBytes = kQueryBytes + kWeightBytes + 2 * kSlots * kKeyBytes;
  static_assert(kBytes <= kMostShared && kRows * kShare == kDecodeThreads);
  const DecodeArguments& a;
  const uint32_t queries;
  const uint32_t weights = queries + kQueryBytes;
  const DecodeWork work{a};
  const int row = static_cast<int>(threadIdx.x) / kShare, own = static_cast<int>(threadIdx.x) % kShare;
  const float scale = a.scale * kLog2E;
  float top = -INFINITY, sum = 0, out[kHead / kShare] = {};

  __device__ __forceinline__ uint32_t keys(int step) const {
    return queries + kQueryBytes + kWeightBytes + step % kSlots * 2 * kKeyBytes;
  }
  __device__ __forceinline__ uint32_t values(int step) const { return keys(step) + kKeyBytes; }
  static __device__ __forceinline__ float4 load_four(uint32_t address) {
    float4 x;
    asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(x.x), "=f"(x.y), "=f"(x.z), "=f"(x.w)
                 : "r"(address)
                 : "memory");
    return x;
  }

  __device__ __forceinline__ void send_queries() const {
    const auto* const data = static_cast<const float*>(a.q.data);
#pragma unroll
    for (int n = 0; n < kRows * kHead / 4; n += kDecodeThreads) {
      const int at = n + static_cast<int>(threadIdx.x), to = at / (kHead / 4), four = at % (kHead / 4);
      const bool is_there = to < work.rows();
      copy_chunk(queries + 4 * (to * kRowFloats + 4 * four), data + (is_there ? work.place_in(a.q, to) + 4 * four : 0),
                 is_there);
    }
  }
  __device__ __forceinline__ void send(uint32_t to, const HeadsTensor& from, int step) const {
    const auto* const data = static_cast<const float*>(from.data) + work.key_head * from.head_stride;
#pragma unroll
    for (int n = 0; n < kColumns * kHead / 4; n += kDecodeThreads) {
      const int at = n + static_cast<int>(threadIdx.x), column = at / (kHead / 4), four = at % (kHead / 4);
      const int key = step * kColumns + column;
      const bool is_there = key < work.keys;
      copy_chunk(to + 4 * (column * kRowFloats + 4 * four),
                 data + (is_there ? (work.key + key) * from.row_stride + 4 * four : 0), is_there);
    }
  }
  __device__ __forceinline__ void send(int step) const { send(keys(step), a.k, step), send(values(step), a.v, step); }

  __device__ __forceinline__ void multiply(int step) {
    float score[kColumns / kShare] = {};
#pragma unroll 4
    for (int four = 0; four < kHead / 4; ++four) {
      const float4 q = load_four(queries + 4 * (row * kRowFloats + 4 * four));
#pragma unroll
      for (int i = 0; i < kColumns / kShare; ++i) {
        const float4 k = load_four(keys(step) + 4 * ((own + kShare * i) * kRowFloats + 4 * four));
        score[i] = fmaf(q.x, k.x, fmaf(q.y, k.y, fmaf(q.z, k.z, fmaf(q.w, k.w, score[i]))));
      }
    }
    raise(score, work.keys - step * kColumns);
    __syncwarp();  // the row's weights are there
#pragma unroll 2
    for (int key = 0; key < kColumns; key += 4) {
      const float4 four = load_four(weights + 4 * (row * kWeightFloats + key));
      const float weight[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
      for (int n = 0; n < 4; ++n)
#pragma unroll
        for (int i = 0; i < kHead / kShare / 4; ++i) {
          const float4 v = load_four(values(step) + 4 * ((key + n) * kRowFloats + 4 * (own + kShare * i)));
          out[4 * i] = fmaf(weight[n], v.x, out[4 * i]), out[4 * i + 1] = fmaf(weight[n], v.y, out[4 * i + 1]);
          out[4 * i + 2] = fmaf(weight[n], v.z, out[4 * i + 2]), out[4 * i + 3] = fmaf(weight[n], v.w, out[4 * i + 3]);
        }
    }
  }
  /// Scores become weights, in shared memory; `left` keys are left of the chunk.
  __device__ __forceinline__ void raise(float (&score)[kColumns / kShare], int left) {
    float largest = top;
#pragma unroll
    for (int i = 0; i < kColumns / kShare; ++i) {
      if (own + kShare * i >= left) score[i] = -INFINITY;
      largest = fmaxf(largest, score[i]);
    }
#pragma unroll
    for (int step = 1; step < kShare; step *= 2) largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, step));
    const float base = largest * scale, kept = exp2_fast(fmaf(top, scale, -base));  // a chunk's first key is seen
    float added = 0;
#pragma unroll
    for (int i = 0; i < kColumns / kShare; ++i) {
      const float weight = exp2_fast(fmaf(score[i], scale, -base));
      added += weight;
      asm volatile("st.shared.f32 [%0], %1;" ::"r"(weights + 4 * (row * kWeightFloats + own + kShare * i)), "f"(weight)
                   : "memory");
    }
    top = largest, sum = fmaf(sum, kept, added);
#pragma unroll
    for (float& x : out) x *= kept;
  }

  __device__ __forceinline__ void store() {
    float all = sum;
#pragma unroll
    for (int step = 1; step < kShare; step *= 2) all += __shfl_xor_sync(0xffffffffu, all, step);
    if (row >= work.rows()) return;
    const int64_t part = work.part_of(a.q, row);
    const float factor = 1 / all;
#pragma unroll
    for (int i = 0; i < kHead / kShare / 4; ++i) {
      const float four[4] = {out[4 * i] * factor, out[4 * i + 1] * factor, out[4 * i + 2] * factor,
                             out[4 * i + 3] * factor};
      store_four(a.parts + part * kHead + 4 * (own + kShare * i), four);
    }
    if (own == 0) a.parts[a.slots * a.q.heads * kHead + part] = (top * scale + log2_fast(all)) * kLn2;
  }
  __device__ __forceinline__ bool is_needed() const { return true; }  // its threads meet in shuffles
};

template <template <int> typename Block, int kHead>
__global__ void __launch_bounds__(kDecodeThreads, 1) decode_attention(const __grid_constant__ DecodeArguments a) {
  extern __shared__ __align__(128) unsigned char memory[];
  Block<kHead> block{a, static_cast<uint32_t>(__cvta_generic_to_shared(memory))};
  const int steps = (block.work.keys + Block<kHead>::kColumns - 1) / Block<kHead>::kColumns;
  block.send_queries();
  block.send(0);
  commit_copies();
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
    if (step + 1 < steps) block.send(step + 1);
    commit_copies();
    wait_copies<1>();
    __syncthreads();  // the step is there for all threads
    if (block.is_needed()) block.multiply(step);
    __syncthreads();  // nobody reads it any longer
  }
  if (block.is_needed()) block.store();
}

/// Puts the parts of queries together, in their order: four elements a thread.
template <typename T>
__global__ void __launch_bounds__(kMergeThreads) decode_attention_merge(const __grid_constant__ DecodeArguments a) {
  const auto size = static_cast<uint32_t>(a.q.size), heads = static_cast<uint32_t>(a.q.heads);
  const uint32_t here = (blockIdx.x * kMergeThreads + threadIdx.x) * 4, row = here / size, column = here % size;
  const uint32_t query = row / heads, head = row % heads;
  if (query >= a.q.rows) return;
  const float* const lse_of = a.parts + a.slots * heads * size;
  const int begin = __ldg(a.part_begin + query), end = __ldg(a.part_begin + query + 1);
  const auto part_at = [&](int at) { return static_cast<int64_t>(__ldg(a.part + at)) * heads + head; };
  float out[4] = {};
  const float lse = merge_parts(
      out, begin, end, part_at, [&](int64_t part) { return lse_of + part; },
      [&](int64_t part) { return a.parts + part * size + column; });
  if (column == 0) a.lse[row] = lse;
  store_four(static_cast<T*>(a.out) + static_cast<int64_t>(row) * size + column, out);
}

template <template <int> typename Block, int kHead>
cudaError_t launch_chunks(const DecodeArguments& a, cudaStream_t stream) {
  if (a.items == 0) return cudaSuccess;
  constexpr auto kBytes = static_cast<int>(Block<kHead>::kBytes);
  const auto kernel = decode_attention<Block, kHead>;
  if (const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
      error != cudaSuccess)
    return error;
  kernel<<<dim3(static_cast<unsigned>(a.items), static_cast<unsigned>(a.k.heads)), kDecodeThreads, kBytes, stream>>>(a);
  return cudaGetLastError();
}

template <int kHead>
cudaError_t launch(const DecodeArguments& a, cudaStream_t stream) {
  const cudaError_t error = a.element == Element::kFloat32 ? launch_chunks<PlainBlock, kHead>(a, stream)
                                                           : launch_chunks<CoreBlock, kHead>(a, stream);
  if (error != cudaSuccess) return error;
  const int64_t threads = a.q.rows * a.q.heads * kHead / 4;
  with_element(a.result, [&](auto result) {
    decode_attention_merge<decltype(result)>
        <<<static_cast<unsigned>((threads + kMergeThreads - 1) / kMergeThreads), kMergeThreads, 0, stream>>>(a);
  });
  return cudaGetLastError();
}

}  // namespace

cudaError_t launch_decode_attention(const DecodeArguments& arguments, cudaStream_t stream) {
  if (arguments.element == Element::kFloat16) return cudaErrorInvalidValue;
  if (arguments.q.rows == 0 || arguments.q.heads == 0) return cudaSuccess;
  switch (arguments.q.size) {
    case 64:
      return launch<64>(arguments, stream);
    case 128:
      return launch<128>(arguments, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace fpdist::kernels
