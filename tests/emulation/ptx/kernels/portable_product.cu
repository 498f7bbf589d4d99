// A test kernel of the PTX machine: C[M,N] = A[M,K] B[N,K]^T in bfloat16, C in float32, from sm_80 on: cp.async in two
// stages, ldmatrix, mma.sync. A block makes 64 x 64, each of its four warps 16 rows. Rows of 128 bytes, whose 16-byte
// chunks are exchanged by the row's number, so that ldmatrix meets no bank twice. FAULT plants a mistake.
#include <cstdint>

namespace {

constexpr int kFault = FAULT, kTile = 64, kRowBytes = 128, kTileBytes = kTile * kRowBytes;

__device__ uint32_t chunk_at(uint32_t tile, int row, int chunk) {
  return tile + row * kRowBytes + ((chunk ^ (row & 7)) << 4);
}
__device__ void copy_16(uint32_t to, const void* from, bool is_there) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(is_there ? 16 : 0) : "memory");
}
__device__ void load_matrices(uint32_t (&to)[4], uint32_t from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(from + (kFault == 4 ? 8 : 0))
               : "memory");
}
__device__ void multiply(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// Rows first .. first + 63 of a matrix of `rows`, columns k .. k + 63; zeros below its end.
__device__ void load_tile(uint32_t tile, const uint16_t* from, int first, int rows, int k, int stride) {
  for (int i = threadIdx.x; i < kTile * 8; i += blockDim.x) {
    const int row = i / 8, chunk = i % 8;
    const bool is_there = kFault == 2 ? first + row <= rows : first + row < rows;
    copy_16(chunk_at(tile, row, chunk), from + int64_t{is_there ? first + row : 0} * stride + k + chunk * 8, is_there);
  }
}

/// One tile's share of the warp's 16 x 64.
__device__ void multiply_tiles(float (&sum)[8][4], uint32_t a_tile, uint32_t b_tile) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  for (int k = 0; k < 4; ++k) {
    uint32_t a[4];
    load_matrices(a, chunk_at(a_tile, warp * 16 + (lane & 15), 2 * k + (lane >> 4)));
    for (int n = 0; n < 4; ++n) {
      uint32_t b[4];
      load_matrices(b, chunk_at(b_tile, n * 16 + (lane & 7) + 8 * (lane >> 4), 2 * k + (lane >> 3 & 1)));
      multiply(sum[2 * n], a, b[0], b[1]);
      multiply(sum[2 * n + 1], a, b[2], b[3]);
    }
  }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(128)
    portable_product(const uint16_t* a, const uint16_t* b, float* c, int m, int n, int k) {
  extern __shared__ __align__(1024) unsigned char memory[];
  const auto shared = static_cast<uint32_t>(__cvta_generic_to_shared(memory));
  const int row = blockIdx.y * kTile, column = blockIdx.x * kTile, tiles = k / kTile;
  const auto load = [&](int tile) {
    const uint32_t stage = shared + (tile & 1) * 2 * kTileBytes;
    load_tile(stage, a, row, m, tile * kTile, k);
    load_tile(stage + kTileBytes, b, column, n, tile * kTile, k);
    asm volatile("cp.async.commit_group;" ::: "memory");
  };
  float sum[8][4] = {};
  load(0);
  for (int tile = 0; tile < tiles; ++tile) {
    if (kFault == 6 && threadIdx.x < 32 && tile == 1) break;
    if (tile + 1 < tiles) load(tile + 1);
    if (kFault != 3 && tile + 1 < tiles) asm volatile("cp.async.wait_group 1;" ::: "memory");
    if (kFault != 3 && tile + 1 == tiles) asm volatile("cp.async.wait_group 0;" ::: "memory");
    if (kFault == 7 && threadIdx.x % 32 < 16) asm volatile("bar.sync 1;" ::: "memory");
    if (kFault != 1) __syncthreads();
    const uint32_t stage = shared + (tile & 1) * 2 * kTileBytes;
    multiply_tiles(sum, stage, stage + kTileBytes);
    if (kFault != 5) __syncthreads();
  }
  const int lane = threadIdx.x % 32, first = row + threadIdx.x / 32 * 16 + lane / 4;
  for (int i = 0; i < 8; ++i)
    for (int q = 0; q < 4; ++q) {
      const int r = first + 8 * (q >> 1), at = column + i * 8 + lane % 4 * 2 + (q & 1);
      if ((kFault == 8 ? r <= m : r < m) && at < n) c[int64_t{r} * n + at] = sum[i][q];
    }
}
