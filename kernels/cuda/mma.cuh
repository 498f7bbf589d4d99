#pragma once
// kernels/cuda: products of a warp's tensor cores from sm_80 on (mma.sync m16n8k16), 16-bit elements with float32 sums,
// and how their operands come to registers: rows copied by cp.async into shared memory, whence ldmatrix takes them.
// Register i of a lane's sums is row lane / 4 + 8 (i / 2 % 2) of 16 and column 8 (i / 4) + 2 (lane % 4) + i % 2, and
// so, rounded in pairs, is the left side of the next product.

#include <cstdint>

#include "kernels/cuda/tensor_map.hpp"
#include "kernels/cuda/vector.cuh"

namespace fpdist::kernels {

/// A matrix in shared memory: rows of kColumns 16-bit elements, one behind the other. Their 16-byte chunks are
/// exchanged by the row's number, so that the same chunk of eight rows lies in all 32 banks: among 8 where a row is a
/// whole number of 128 bytes, else among 4 by every other row (192 bytes: rows of one parity begin at the same bank).
template <int kColumns>
struct ChunkedRows {
  static_assert(kColumns % 32 == 0 && (kColumns % 64 == 0 || kColumns == 96));
  static constexpr int kChunks = kColumns / 8, kExchanged = kColumns % 64 == 0 ? 8 : 4;
  static constexpr uint32_t kRowBytes = 2 * kColumns;

  static __device__ __forceinline__ uint32_t offset_of(int row, int chunk) {
    const int by = kExchanged == 8 ? row % 8 : row / 2 % 4;
    return static_cast<uint32_t>(row) * kRowBytes + static_cast<uint32_t>((chunk ^ by) * 16);
  }
  /// Of a place, the one 2 * step chunks on in the same row, where the place's own chunk is 0 or 1.
  static __device__ __forceinline__ uint32_t moved(uint32_t place, int step) {
    constexpr int kSteps = kExchanged / 2;
    return (place ^ static_cast<uint32_t>(step % kSteps * 32)) + static_cast<uint32_t>(step / kSteps * kExchanged * 16);
  }
  /// Where a lane's part of 16 rows and 16 columns is that lie row by row: four quarters, columns first in `by_row`, as
  /// the left side of a product has them and a right side that is transposed; else rows first, as a right side has
  /// them that is [columns of the product][depth].
  static __device__ __forceinline__ uint32_t left_place() {
    const auto lane = static_cast<int>(threadIdx.x % 32);
    return offset_of(lane % 16, lane / 16);
  }
  static __device__ __forceinline__ uint32_t right_place() {
    const auto lane = static_cast<int>(threadIdx.x % 32);
    return offset_of(lane % 8 + lane / 16 * 8, lane / 8 % 2);
  }
};

/// 16 bytes of global to shared memory, or zeros; there once they are waited for.
__device__ __forceinline__ void copy_chunk(uint32_t to, const void* from, bool is_there) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(is_there ? 16 : 0) : "memory");
}
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// For the thread's own, all but the kGroups committed last.
template <int kGroups>
__device__ __forceinline__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroups) : "memory");
}

/// Rows `first` to first + kRows - 1 of one head to `to`, zeros where there are none, by kThreads threads. A thread has
/// every so many rows of one column of chunks, so that all but one address of it are constants apart.
template <int kColumns, int kRows, int kThreads>
__device__ __forceinline__ void copy_rows(uint32_t to, const HeadsTensor& from, int head, int first) {
  using Rows = ChunkedRows<kColumns>;
  constexpr int kStep = kThreads / Rows::kExchanged;
  static_assert(kRows % kStep == 0 && kStep % 8 == 0);
  const int row = static_cast<int>(threadIdx.x) / Rows::kExchanged,
            chunk = static_cast<int>(threadIdx.x) % Rows::kExchanged;
  const auto* data =
      static_cast<const uint16_t*>(from.data) + head * from.head_stride + (first + row) * from.row_stride + 8 * chunk;
  to += Rows::offset_of(row, chunk);
#pragma unroll
  for (int n = 0; n < kRows; n += kStep) {
    const bool is_there = first + row + n < from.rows;
#pragma unroll
    for (int panel = 0; panel < Rows::kChunks; panel += Rows::kExchanged)
      copy_chunk(to + n * Rows::kRowBytes + 16 * panel, data + 8 * panel, is_there);
    data += kStep * from.row_stride;
  }
}

__device__ __forceinline__ void load_matrices(uint32_t (&to)[4], uint32_t from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(from)
               : "memory");
}
__device__ __forceinline__ void load_transposed(uint32_t (&to)[4], uint32_t from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(from)
               : "memory");
}

/// sum[0..3] += A B, 16 x 16 by 16 x 8.
__device__ __forceinline__ void multiply_add(float* sum, const uint32_t* a, const uint32_t* b, BFloat16) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ void multiply_add(float* sum, const uint32_t* a, const uint32_t* b, Float16) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/// sum = A B^T over a head: kTiles times 16 rows of A from `a` on, and N / 4 times 8 rows of B from `b` on; both begin
/// at a row whose number is a multiple of 16.
template <typename T, int kHead, int kTiles, int N>
__device__ __forceinline__ void multiply_heads(float (&sum)[kTiles][N], uint32_t a, uint32_t b) {
  using Rows = ChunkedRows<kHead>;
  const uint32_t left = a + Rows::left_place(), right = b + Rows::right_place();
#pragma unroll
  for (int m = 0; m < kTiles; ++m)
#pragma unroll
    for (int i = 0; i < N; ++i) sum[m][i] = 0;
#pragma unroll
  for (int step = 0; step < kHead / 16; ++step) {
    uint32_t own[kTiles][4];
#pragma unroll
    for (int m = 0; m < kTiles; ++m) load_matrices(own[m], Rows::moved(left, step) + m * 16 * Rows::kRowBytes);
#pragma unroll
    for (int n = 0; n < N / 8; ++n) {
      uint32_t other[4];
      load_matrices(other, Rows::moved(right, step) + n * 16 * Rows::kRowBytes);
#pragma unroll
      for (int m = 0; m < kTiles; ++m) {
        multiply_add(sum[m] + 8 * n, own[m], other, T{});
        multiply_add(sum[m] + 8 * n + 4, own[m], other + 2, T{});
      }
    }
  }
}

/// sum += A B: A in registers, kTiles times 16 rows and 16 columns for every four of them; B's rows from `b` on, at a
/// row whose number is a multiple of 16.
template <typename T, int kHead, int kTiles, int N, int kRegisters>
__device__ __forceinline__ void add_product(float (&sum)[kTiles][N], const uint32_t (&a)[kTiles][kRegisters],
                                            uint32_t b) {
  using Rows = ChunkedRows<kHead>;
  static_assert(N == kHead / 2);
  const uint32_t right = b + Rows::left_place();
#pragma unroll
  for (int step = 0; step < kRegisters / 4; ++step)
#pragma unroll
    for (int n = 0; n < kHead / 16; ++n) {
      uint32_t other[4];
      load_transposed(other, Rows::moved(right, n) + step * 16 * Rows::kRowBytes);
#pragma unroll
      for (int m = 0; m < kTiles; ++m) {
        multiply_add(sum[m] + 8 * n, a[m] + 4 * step, other, T{});
        multiply_add(sum[m] + 8 * n + 4, a[m] + 4 * step, other + 2, T{});
      }
    }
}

}  // namespace fpdist::kernels
