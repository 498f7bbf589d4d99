#pragma once
// tests/emulation/ptx: what a block of threads is while it runs.

#include <array>
#include <bit>
#include <cstring>
#include <deque>
#include <random>

#include "tests/emulation/ptx/machine.hpp"

namespace fpdist::ptx {

/// Who acts on shared memory; each has a clock, and every warp knows how far it has seen each clock.
constexpr int kAgents = 32;  // the warps of a block
using Clocks = std::array<uint32_t, kAgents>;

inline void join(Clocks& into, const Clocks& other) {
  for (size_t i = 0; i < into.size(); ++i) into[i] = std::max(into[i], other[i]);
}

/// Shared memory and what is known of each of its 4-byte words.
struct SharedMemory {
  struct Word {
    uint8_t written = 0;  ///< a bit a byte
    uint8_t lane = 0;     ///< of the last writer
    uint16_t writer = 0;  ///< agent
    uint32_t clock = 0;   ///< of the last write; 0: none
    const Op* op = nullptr;
  };
  std::vector<uint8_t> bytes;
  std::vector<Word> word;
  std::vector<uint32_t> read_clock;  ///< [agent][word]; 0: not read
  std::vector<const Op*> reader;     ///< [word]: the last one
};

enum class Waiting : uint8_t { kNo, kLanes, kPoll };
/// Lanes that stand at one place of the program.
struct Group {
  uint32_t pc = 0, mask = 0;
  Waiting waiting = Waiting::kNo;
};

enum class WarpState : uint8_t { kRuns, kAtBarrier, kPolls, kExited };

struct Block;
struct Warp {
  Block* block = nullptr;
  int id = 0;
  uint32_t born = 0, live = 0;  ///< lanes that ever were, and that have not exited
  uint32_t mask = 0, exec = 0;  ///< of the current group, and of this instruction
  uint32_t pc = 0;
  WarpState state = WarpState::kRuns;
  std::vector<Group> others;
  std::vector<uint32_t> r32, predicate;
  std::vector<uint64_t> r64;
  Clocks seen{};
  int barrier = 0;
  uint64_t polls = 0;

  uint32_t* r(Register reg) { return r32.data() + size_t{reg.number} * 32; }
  uint64_t* d(Register reg) { return r64.data() + size_t{reg.number} * 32; }
  uint32_t& p(Register reg) { return predicate[reg.number]; }
  template <typename T>
  T* lanes(Register reg) {
    if constexpr (sizeof(T) == 8)
      return reinterpret_cast<T*>(d(reg));
    else
      return reinterpret_cast<T*>(r(reg));
  }
};

struct Barrier {
  uint32_t arrived = 0, expected = 0;
  std::vector<int> waiting;
  Clocks seen{};
};

struct Block {
  const Kernel* kernel = nullptr;
  const Options* options = nullptr;
  GlobalMemory* memory = nullptr;
  Counters* counters = nullptr;
  std::array<uint32_t, 3> at{}, grid{}, size{};
  uint32_t number = 0;  ///< of the launch, in order
  uint8_t* parameters = nullptr;
  uint32_t dynamic_shared = 0;  ///< where it begins
  SharedMemory shared;
  std::vector<Warp> warp;
  std::array<Barrier, 16> barrier;
  std::vector<Extent> extent;  ///< allocations used lately
  std::mt19937_64 random;
  bool has_progressed = false;
};

/// Throws Fault; lane -1: all of them.
[[noreturn]] void fail(const Warp& warp, const Op& op, const std::string& what, int lane = -1);
std::string hex(uint64_t value);

template <typename Body>
void each_lane(uint32_t mask, const Body& body) {
  for (; mask != 0; mask &= mask - 1) body(std::countr_zero(mask));
}

/// value(lane) into the lanes of `to` that take part.
template <typename T, typename Value>
void put(Warp& warp, Register to, const Value& value) {
  T* const out = warp.lanes<T>(to);
  if (warp.exec == ~0u)
    for (int i = 0; i < 32; ++i) out[i] = value(i);
  else
    for (int i = 0; i < 32; ++i)
      if (warp.exec >> i & 1) out[i] = value(i);
}
inline void put_predicate(Warp& warp, Register to, uint32_t mask) {
  warp.p(to) = (warp.p(to) & ~warp.exec) | (mask & warp.exec);
}

/// Whether every living lane of the warp is here. If not, the instruction is put off until they are, and the caller
/// returns.
bool all_lanes_here(Warp& warp, const Op& op);
/// The current group waits until another one has come to the same place; a fault when none can.
void wait_for_lanes(Warp& warp, const Op& op);
void branch(Warp& warp, const Op& op);
void exit_lanes(Warp& warp, const Op& op);
/// Lanes that stand where the current ones do join them; the group of least pc goes on.
void reconverge(Warp& warp);

// Shared memory: bounds and alignment always, races and unwritten words where checks are on.
void read_shared(Warp& warp, const Op& op, uint32_t address, uint32_t bytes, int lane);
void write_shared(Warp& warp, const Op& op, uint32_t address, uint32_t bytes, int lane);
void count_shared(Warp& warp, const uint32_t* address, uint32_t mask, uint32_t bytes);
// Global memory, likewise.
void read_global(Warp& warp, const Op& op, uint64_t address, uint32_t bytes, int lane);
void write_global(Warp& warp, const Op& op, uint64_t address, uint32_t bytes, int lane);
void count_global(Warp& warp, const uint64_t* address, uint32_t mask, uint32_t bytes);

/// Generic addresses of shared memory begin here.
constexpr uint64_t kSharedWindow = 0x7d00'0000'0000'0000ull;

inline float from_bfloat16(uint32_t bits) { return std::bit_cast<float>(bits << 16); }
inline uint32_t to_bfloat16(float x) {
  if (x != x) return 0x7fff;
  const auto bits = std::bit_cast<uint32_t>(x);
  return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

}  // namespace fpdist::ptx
