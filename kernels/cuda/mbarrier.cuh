#pragma once
// kernels/cuda: how the warps of a block and the copies into its shared memory wait for each other on Hopper. An
// mbarrier is over its phase when all arrivals and all bytes that it expects have come; phases alternate in parity.

#include <cstdint>

namespace fpdist::kernels {

__device__ __forceinline__ uint32_t shared_address(const void* place) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(place));
}

__device__ __forceinline__ void initialise(uint32_t barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
/// Initialised barriers become visible to copies.
__device__ __forceinline__ void publish_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ __forceinline__ void arrive(uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
/// Arrives, and the phase waits for so many bytes of copies too.
__device__ __forceinline__ void arrive_expecting(uint32_t barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
/// Until the phase of that parity is over: of a new barrier, that of parity 1 is.
__device__ __forceinline__ void wait(uint32_t barrier, uint32_t parity) {
  asm volatile(
      "{\n.reg .pred over;\nAGAIN:\nmbarrier.try_wait.parity.shared::cta.b64 over, [%0], %1;\n@over bra OVER;\nbra "
      "AGAIN;\nOVER:\n}\n" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

/// Barriers of a ring of kSlots places in shared memory: `full` and `empty` of each, in turn. The producer waits for
/// empty slots, and arrives with the bytes that it sends for; whoever reads waits for full ones and arrives.
template <uint32_t kSlots>
struct Ring {
  static_assert((kSlots & (kSlots - 1)) == 0, "slot and round come out of one counter, which costs a register");
  uint32_t barriers;  ///< shared address of 2 * kSlots mbarriers
  uint32_t count = 0;

  __device__ __forceinline__ uint32_t slot() const { return count % kSlots; }
  __device__ __forceinline__ uint32_t slot_before() const { return (count + kSlots - 1) % kSlots; }
  __device__ __forceinline__ uint32_t round() const { return count / kSlots % 2; }
  __device__ __forceinline__ uint32_t full() const { return barriers + slot() * 16; }
  __device__ __forceinline__ uint32_t empty() const { return full() + 8; }
  __device__ __forceinline__ uint32_t empty_before() const { return barriers + slot_before() * 16 + 8; }
  __device__ __forceinline__ void initialise_all(int readers) const {
    for (uint32_t s = 0; s < kSlots; ++s) {
      initialise(barriers + s * 16, 1);
      initialise(barriers + s * 16 + 8, readers);
    }
  }
  __device__ __forceinline__ void wait_empty() const { wait(empty(), round() ^ 1); }
  __device__ __forceinline__ void wait_full() const { wait(full(), round()); }
  __device__ __forceinline__ void advance() { ++count; }
};

/// Barriers that the whole block shares by number; `threads` of it take part, whole warps. Who arrives does not wait.
__device__ __forceinline__ void meet(int barrier, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}
__device__ __forceinline__ void let_pass(int barrier, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

/// What a warpgroup may have of the registers: a block's are handed out evenly when it starts.
template <int kRegisters>
__device__ __forceinline__ void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

}  // namespace fpdist::kernels
