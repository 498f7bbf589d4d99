#pragma once
// tree_attention on the GPU: how a block of threads is divided, what it works on, and its products. One warpgroup sends
// for tiles by TMA, a ring ahead; two others have 64 of the block's rows each.

#include "kernels/cuda/bulk_copy.cuh"
#include "kernels/tree_attention/cuda/tree_attention_kernel.hpp"

namespace fpdist::kernels {

constexpr int kConsumers = 2, kGroupThreads = 128, kThreads = kGroupThreads * (kConsumers + 1);
constexpr int kRowsOfGroup = 64;
static_assert(kQueryBlock == kConsumers * kRowsOfGroup && kKeyBlock == kConsumers * kRowsOfGroup);
// Registers of a thread: each of the 384 begins with 168. The producer needs few.
constexpr int kProducerRegisters = 24, kConsumerRegisters = 240;

template <int kRows>
constexpr uint32_t kPanelBytes = kRows* kPanelRowBytes;
template <int kRows, int kHead>
constexpr uint32_t kTileBytes = kRows* kHead * 2;

/// What a block does. Heads that share keys run at the same time; what takes longest begins first.
struct TileWork {
  int head, block, first, tiles;
  __device__ __forceinline__ explicit TileWork(const TileLists& lists) {
    head = static_cast<int>(blockIdx.x);
    block = __ldg(lists.order + blockIdx.y);
    first = __ldg(lists.offset + block);
    tiles = __ldg(lists.offset + block + 1) - first;
  }
};
inline dim3 grid_of(int heads, const TileLists& lists) {
  return {static_cast<unsigned>(heads), static_cast<unsigned>(lists.blocks)};
}

/// The thread's first row among those of its block: a lane has two of its warp's 16, eight apart.
__device__ __forceinline__ int row_of_thread(int group) {
  return group * kRowsOfGroup + threadIdx.x / 32 % 4 * 16 + threadIdx.x % 32 / 4;
}

/// The same for all lanes of a warp, and the compiler is to know it.
__device__ __forceinline__ int warpgroup() {
  return __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x / kGroupThreads), 0);
}

/// A warp's reads of a slot are over: it says so itself, for a wait for products speaks for its own warp only.
__device__ __forceinline__ void release(uint32_t empty) {
  if (threadIdx.x % 32 == 0) arrive(empty);
}

/// sum = A B^T over a head's columns: A [64][kHead] and B [columns][kHead], panels so many bytes apart.
template <int kHead, int N>
__device__ __forceinline__ void multiply_heads(float (&sum)[N], uint32_t a, uint32_t a_panel, uint32_t b,
                                               uint32_t b_panel) {
#pragma unroll
  for (int panel = 0; panel < kHead / kPanelColumns; ++panel) {
    const uint64_t left = along_columns(a + panel * a_panel), right = along_columns(b + panel * b_panel);
#pragma unroll
    for (int step = 0; step < kPanelColumns / 16; ++step) {
      if (panel == 0 && step == 0)
        multiply<0, 0>(sum, left, right);
      else
        multiply<0, 1>(sum, moved(left, step * 32), moved(right, step * 32));
    }
  }
}

/// sum += A B over the rows of B: A [64][rows] in registers, B [rows][head].
template <int N, int kRegisters>
__device__ __forceinline__ void add_product(float (&sum)[N], const uint32_t (&a)[kRegisters], uint32_t b,
                                            uint32_t b_panel) {
  const uint64_t right = along_rows(b, b_panel);
#pragma unroll
  for (int step = 0; step < kRegisters / 4; ++step)
    multiply<1, 1>(sum, a + 4 * step, moved(right, step * 16 * kPanelRowBytes));
}

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

/// Half `half` of the thread's rows of a sum times `factor`, to the row that begins at `row`, null where there is none.
template <int N>
__device__ __forceinline__ void store_row(float* row, const float (&sum)[N], int half, float factor) {
  if (row == nullptr) return;
  float* const place = row + threadIdx.x % 4 * 2;
#pragma unroll
  for (int n = 0; n < N / 4; ++n)
    *reinterpret_cast<float2*>(place + 8 * n) = {sum[4 * n + 2 * half] * factor, sum[4 * n + 2 * half + 1] * factor};
}
template <int N>
__device__ __forceinline__ void store_row(BFloat16* row, const float (&sum)[N], int half, float factor) {
#pragma unroll
  for (int n = 0; n < N / 4; n += 4) {  // 16 bytes a lane then
    uint32_t word[4];
#pragma unroll
    for (int i = 0; i < 4; ++i)
      word[i] = round_pair(sum[4 * (n + i) + 2 * half] * factor, sum[4 * (n + i) + 2 * half + 1] * factor);
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

/// body(T{}) of what the results are to be.
template <typename Body>
auto with_element(Element element, const Body& body) {
  return element == Element::kFloat32 ? body(float{}) : body(BFloat16{});
}

}  // namespace fpdist::kernels
