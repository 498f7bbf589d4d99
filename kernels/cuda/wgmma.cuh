#pragma once
// kernels/cuda: the products of Hopper's tensor cores (wgmma, sm_90a). A warpgroup, four warps that begin at a multiple
// of four, multiplies 64 rows of A by N columns of B, 16 deep at a time, in bfloat16 with float32 sums; B and mostly A
// are read from shared memory while the warps go on. Register i of a lane's sums is row lane / 4 + 8 (i / 2 % 2) of its
// warp's 16 and column 8 (i / 4) + 2 (lane % 4) + i % 2. That is also how A lies in registers, rounded in pairs: the
// result of one product is the A of the next.

#include <cstdint>

#include "kernels/cuda/vector.cuh"

namespace fpdist::kernels {

// Tiles in shared memory are panels of 64 columns: rows of 128 bytes whose 16-byte pieces are permuted by the row's
// number modulo 8 (the 128-byte swizzle, as TMA writes it), so that no eight rows meet in a bank.
constexpr int kPanelColumns = 64, kPanelRowBytes = 128;
constexpr int kAtomBytes = 8 * kPanelRowBytes;  // what the swizzle repeats after; tiles begin at multiples of it

/// The first 16 columns of a panel's rows from `address` on, to be multiplied along the columns: a matrix [rows][K].
/// K + 16 is 32 bytes further.
__device__ __forceinline__ uint64_t along_columns(uint32_t address) {
  return uint64_t{1} << 62 | uint64_t{kAtomBytes >> 4} << 32 | uint64_t{1} << 16 | (address & 0x3ffff) >> 4;
}
/// The first 16 rows of a tile, to be multiplied along the rows: a matrix [K][columns], panels `panel_bytes` apart. K +
/// 16 is 16 rows further.
__device__ __forceinline__ uint64_t along_rows(uint32_t address, uint32_t panel_bytes) {
  return uint64_t{1} << 62 | uint64_t{kAtomBytes >> 4} << 32 | static_cast<uint64_t>(panel_bytes >> 4) << 16 |
         (address & 0x3ffff) >> 4;
}
/// A matrix that begins `bytes` further.
__device__ __forceinline__ uint64_t moved(uint64_t matrix, uint32_t bytes) { return matrix + (bytes >> 4); }

/// Before the first product and whenever a register of one was written otherwise.
__device__ __forceinline__ void fence_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
/// Until at most kGroups of the groups committed last go on.
template <int kGroups>
__device__ __forceinline__ void wait_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kGroups) : "memory");
}

/// The compiler moves nothing that touches these registers over this place.
template <int N>
__device__ __forceinline__ void pin(float (&x)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) asm volatile("" : "+f"(x[i])::"memory");
}
template <int N>
__device__ __forceinline__ void pin(uint32_t (&x)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) asm volatile("" : "+r"(x[i])::"memory");
}

#define FPDIST_SUMS_8(d, i)                                                                                   \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), \
      "+f"(d[i + 7])
#define FPDIST_SUMS_32(d, i) \
  FPDIST_SUMS_8(d, i), FPDIST_SUMS_8(d, i + 8), FPDIST_SUMS_8(d, i + 16), FPDIST_SUMS_8(d, i + 24)
#define FPDIST_NAMES_32                                                                                            \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, " \
  "%24, %25, %26, %27, %28, %29, %30, %31"
#define FPDIST_NAMES_64                                                                                         \
  FPDIST_NAMES_32                                                                                               \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, " \
  "%53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"

/// sum (+)= A B over 16, N twice the sums that a lane has: 64 or 128. kAdded: 0 begins the sum. kAlongRows: B is
/// along_rows, else along_columns. A in shared memory, or in four registers from a[4 k] on.
template <int kAlongRows, int kAdded>
__device__ __forceinline__ void multiply(float (&sum)[32], uint64_t a, uint64_t b) {
  asm volatile(
      "{\n.reg .pred added;\nsetp.ne.b32 added, %34, 0;\nwgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
      "{" FPDIST_NAMES_32 "}, %32, %33, added, 1, 1, 0, %35;\n}\n"
      : FPDIST_SUMS_32(sum, 0)
      : "l"(a), "l"(b), "n"(kAdded), "n"(kAlongRows));
}
template <int kAlongRows, int kAdded>
__device__ __forceinline__ void multiply(float (&sum)[32], const uint32_t* a, uint64_t b) {
  asm volatile(
      "{\n.reg .pred added;\nsetp.ne.b32 added, %37, 0;\nwgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
      "{" FPDIST_NAMES_32 "}, {%32, %33, %34, %35}, %36, added, 1, 1, %38;\n}\n"
      : FPDIST_SUMS_32(sum, 0)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kAdded), "n"(kAlongRows));
}
template <int kAlongRows, int kAdded>
__device__ __forceinline__ void multiply(float (&sum)[64], uint64_t a, uint64_t b) {
  asm volatile(
      "{\n.reg .pred added;\nsetp.ne.b32 added, %66, 0;\nwgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
      "{" FPDIST_NAMES_64 "}, %64, %65, added, 1, 1, 0, %67;\n}\n"
      : FPDIST_SUMS_32(sum, 0), FPDIST_SUMS_32(sum, 32)
      : "l"(a), "l"(b), "n"(kAdded), "n"(kAlongRows));
}
template <int kAlongRows, int kAdded>
__device__ __forceinline__ void multiply(float (&sum)[64], const uint32_t* a, uint64_t b) {
  asm volatile(
      "{\n.reg .pred added;\nsetp.ne.b32 added, %69, 0;\nwgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
      "{" FPDIST_NAMES_64 "}, {%64, %65, %66, %67}, %68, added, 1, 1, %70;\n}\n"
      : FPDIST_SUMS_32(sum, 0), FPDIST_SUMS_32(sum, 32)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kAdded), "n"(kAlongRows));
}

#undef FPDIST_SUMS_8
#undef FPDIST_SUMS_32
#undef FPDIST_NAMES_32
#undef FPDIST_NAMES_64

}  // namespace fpdist::kernels
