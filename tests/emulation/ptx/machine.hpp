#pragma once
// tests/emulation/ptx: running a kernel. One thread, one block after another; warps take turns. What a GPU leaves open
// (the order of warps and of blocks, when a copy lands) is drawn from a seed, so that a test may try several.

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tests/emulation/ptx/kernel.hpp"

namespace fpdist::ptx {

/// What is known of one block of global memory, byte by byte.
struct Shadow {
  static constexpr uint32_t kNobody = 0, kMany = ~0u;
  std::vector<bool> is_written;
  std::vector<uint32_t> writer, reader;  ///< thread block + 1 of this launch
};

/// An allocation, [begin,end); `shadow` null: only its bounds are checked.
struct Extent {
  uint64_t begin = 1, end = 0;
  Shadow* shadow = nullptr;
  bool holds(uint64_t address, uint64_t bytes) const { return address >= begin && address + bytes <= end; }
};

class GlobalMemory {
 public:
  virtual ~GlobalMemory() = default;
  /// The allocation in or behind which `address` lies, an empty one where there is none before it.
  virtual Extent find(uint64_t address) = 0;
  virtual void start_launch() {}
};

/// Host memory that a test hands to kernels: never-written bytes and blocks that race are seen.
class TestMemory : public GlobalMemory {
 public:
  void add(const void* address, uint64_t bytes, bool is_written);
  /// Somewhere inside an allocation.
  void mark_written(const void* address, uint64_t bytes);
  Extent find(uint64_t address) override;
  void start_launch() override;

 private:
  struct Block {
    Extent extent;
    std::shared_ptr<Shadow> shadow;
  };
  std::map<uint64_t, Block> block_;
};

struct Counters {
  uint64_t launches = 0, warp_instructions = 0, lane_instructions = 0;
  uint64_t global_requests = 0, global_bytes = 0;  ///< loads and stores of a warp; bytes their lanes asked for
  uint64_t global_sectors = 0, least_sectors = 0;  ///< 32 bytes each: touched, and what the distinct bytes fill
  uint64_t shared_requests = 0, shared_waves = 0, least_shared_waves = 0;
  uint64_t barriers = 0, matrix_loads = 0, mma = 0, wgmma = 0;
  uint64_t tensor_flop = 0, tma_bytes = 0;
  std::map<std::string, uint64_t> by_instruction;  ///< warp instructions, where Options::counts_instructions
};

struct Options {
  uint64_t seed = 0;       ///< 0: warps and blocks in order
  bool has_checks = true;  ///< of races and of what was never written; bounds are always checked
  int turn = 64;           ///< instructions before another warp goes on
  bool counts_instructions = false;
};

struct Launch {
  std::array<uint32_t, 3> grid{1, 1, 1}, block{1, 1, 1};
  uint32_t dynamic_shared = 0;
  std::vector<uint8_t> parameters;  ///< laid out as Kernel::parameter says
};

/// Throws Fault with the whole story.
void run(const Kernel& kernel, const Launch& launch, GlobalMemory& memory, const Options& options, Counters& counters);

}  // namespace fpdist::ptx
