// A test kernel of the PTX machine: C[M,N] = A[M,K] B[N,K]^T, or A[M,K] B[K,N], in bfloat16, on sm_90a: TMA brings
// tiles of 64 x 64 into a ring of two slots, mbarriers hand the slots over, wgmma multiplies, TMA takes the result.
// Warps 0-3 produce, warps 4-7 consume. FAULT plants a mistake.
#include <cstdint>

namespace {

constexpr int kFault = FAULT, kTile = 64, kTileBytes = kTile * kTile * 2, kSlots = 2;

/// 128 bytes, filled by the driver or by who stands in for it.
struct alignas(128) Map {
  unsigned char bytes[128];
};

__device__ void initialise(uint32_t barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
__device__ void arrive(uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
__device__ void arrive_expecting(uint32_t barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
__device__ void wait(uint32_t barrier, int parity) {
  asm volatile(
      "{\n.reg .pred over;\nAGAIN:\nmbarrier.try_wait.parity.shared::cta.b64 over, [%0], %1;\n@over bra OVER;\nbra "
      "AGAIN;\nOVER:\n}\n" ::"r"(barrier),
      "r"(parity)
      : "memory");
}
__device__ void load(uint32_t to, const Map* map, uint32_t barrier, int x, int y) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::"r"(
          to),
      "l"(map), "r"(barrier), "r"(x), "r"(y)
      : "memory");
}
/// Rows of 128 bytes under the 128-byte swizzle, eight of them 1,024 bytes apart.
__device__ uint64_t descriptor(uint32_t address) {
  return uint64_t{1} << 62 | uint64_t{1024 >> 4} << 32 | uint64_t{1} << 16 | (address & 0x3ffff) >> 4;
}

#define FPDIST_REGISTERS(d)                                                                                   \
  "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]), \
      "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]),  \
      "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), \
      "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31])

template <int kTransposedB>
__device__ void multiply(float (&d)[32], uint64_t a, uint64_t b, int is_added) {
  asm volatile(
      "{\n.reg .pred added;\nsetp.ne.b32 added, %34, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, "
      "%13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, %32, %33, "
      "added, 1, 1, 0, %35;\n}\n"
      : FPDIST_REGISTERS(d)
      : "l"(a), "l"(b), "r"(is_added), "n"(kTransposedB));
}
/// Nothing moves over this place.
__device__ void hold(float (&d)[32]) { asm volatile("" : FPDIST_REGISTERS(d)::"memory"); }

__device__ uint32_t round_pair(float low, float high) {
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

template <int kTransposedB>
__device__ void produce(const Map* a, const Map* b, uint32_t slots, uint32_t full, uint32_t empty, int tiles) {
  for (int tile = 0; tile < tiles; ++tile) {
    const int slot = tile % kSlots, round = tile / kSlots & 1;
    const uint32_t to = slots + slot * 2 * kTileBytes, barrier = full + slot * 8;
    if (kFault != 2) wait(empty + slot * 8, round ^ 1);
    arrive_expecting(barrier, kFault == 3 ? kTileBytes : kFault == 4 ? 2 * kTileBytes + 16 : 2 * kTileBytes);
    load(to, a, barrier, tile * kTile, blockIdx.y * kTile);
    if (kTransposedB)
      load(to + kTileBytes, b, barrier, blockIdx.x * kTile, tile * kTile);
    else
      load(to + kTileBytes, b, barrier, tile * kTile, blockIdx.x * kTile);
  }
}

template <int kTransposedB>
__device__ void consume(float (&sum)[32], uint32_t slots, uint32_t full, uint32_t empty, int tiles) {
  for (int tile = 0; tile < tiles; ++tile) {
    const int slot = tile % kSlots, round = tile / kSlots & 1;
    wait(full + slot * 8, kFault == 10 ? round ^ 1 : round);
    const uint32_t a = slots + slot * 2 * kTileBytes, b = a + kTileBytes;
    hold(sum);
    if (kFault != 5) asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
    for (int k = 0; k < 4; ++k)
      multiply<kTransposedB>(sum, descriptor(a + k * 32), descriptor(b + (kTransposedB ? k * 2048 : k * 32)),
                             tile > 0 || k > 0);
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
    if (kFault == 9) sum[0] += 1.0f;
    if (kFault != 6) asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
    hold(sum);
    // A wait speaks for its own warp: every warp gives the slot back.
    if (kFault == 8 ? threadIdx.x == 128 : threadIdx.x % 32 == 0) arrive(empty + slot * 8);
  }
}

__device__ void store(const float (&sum)[32], const Map* c, unsigned char* tile) {
  const int warp = threadIdx.x / 32 - 4, lane = threadIdx.x % 32;
  for (int i = 0; i < 32; i += 2) {
    const int row = warp * 16 + lane / 4 + 8 * (i >> 1 & 1), chunk = i >> 2;
    *reinterpret_cast<uint32_t*>(tile + row * 128 + ((chunk ^ (row & 7)) << 4) + lane % 4 * 4) =
        round_pair(sum[i], sum[i + 1]);
  }
  if (kFault != 7) asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  asm volatile("bar.sync 1, 128;" ::: "memory");
  if (threadIdx.x != 128) return;
  asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %3}], [%1];" ::"l"(c),
               "r"(static_cast<uint32_t>(__cvta_generic_to_shared(tile))), "r"(blockIdx.x * kTile),
               "r"(blockIdx.y * kTile)
               : "memory");
  asm volatile("cp.async.bulk.commit_group;\ncp.async.bulk.wait_group.read 0;" ::: "memory");
}

template <int kTransposedB>
__device__ void product(const Map* a, const Map* b, const Map* c, int k) {
  extern __shared__ __align__(1024) unsigned char memory[];
  __shared__ __align__(8) uint64_t barriers[2 * kSlots];
  const auto slots = static_cast<uint32_t>(__cvta_generic_to_shared(memory));
  const auto full = static_cast<uint32_t>(__cvta_generic_to_shared(barriers)), empty = full + 8 * kSlots;
  if (threadIdx.x == 0) {
    for (int slot = 0; slot < kSlots; ++slot) {
      initialise(full + slot * 8, 1);
      initialise(empty + slot * 8, kFault == 8 ? 1 : kFault == 11 ? 5 : 4);
    }
    if (kFault != 1) asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();
  if (threadIdx.x < 128) {
    if (threadIdx.x == 0) produce<kTransposedB>(a, b, slots, full, empty, k / kTile);
    return;
  }
  float sum[32];
  consume<kTransposedB>(sum, slots, full, empty, k / kTile);
  store(sum, c, memory + kSlots * 2 * kTileBytes);
}

}  // namespace

extern "C" __global__ void __launch_bounds__(256, 1)
    hopper_product(const __grid_constant__ Map a, const __grid_constant__ Map b, const __grid_constant__ Map c, int k) {
  product<0>(&a, &b, &c, k);
}
extern "C" __global__ void __launch_bounds__(256, 1)
    hopper_product_of_columns(const __grid_constant__ Map a, const __grid_constant__ Map b,
                              const __grid_constant__ Map c, int k) {
  product<1>(&a, &b, &c, k);
}
