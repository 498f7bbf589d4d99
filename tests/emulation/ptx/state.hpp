#pragma once
// tests/emulation/ptx: what a block of threads is while it runs.

#include <array>
#include <bit>
#include <cstring>
#include <deque>
#include <map>
#include <random>
#include <set>

#include "tests/emulation/ptx/machine.hpp"
#include "tests/emulation/ptx/tensor_map.hpp"

namespace fpdist::ptx {

/// Who acts on shared memory: the warps of a block, and for what bulk copies bring the mbarriers that they report to.
/// Each has a clock (an mbarrier its phase), and every warp knows how far it has seen each clock.
constexpr size_t kWarps = 32, kMostMbarriers = 32;
using Clocks = std::array<uint32_t, kWarps + kMostMbarriers>;

inline void join(Clocks& into, const Clocks& other) {
  for (size_t i = 0; i < into.size(); ++i) into[i] = std::max(into[i], other[i]);
}

/// Shared memory and what is known of each of its 4-byte words.
struct SharedMemory {
  struct Word {
    uint8_t written = 0;     ///< a bit a byte
    bool is_coming = false;  ///< a copy into it is under way
    bool is_async = false;   ///< the last write went through the async proxy
    uint8_t lane = 0;        ///< of the last writer
    uint16_t writer = 0;     ///< agent
    uint32_t clock = 0;      ///< of the last write; 0: none
    const Op* op = nullptr;
  };
  std::vector<uint8_t> bytes;
  std::vector<Word> word;
  static constexpr uint32_t kUnderWay = ~0u;
  std::vector<uint32_t> read_clock;  ///< [warp][word]; 0: not read; kUnderWay: by a wgmma or a bulk store that goes on
  std::vector<const Op*> reader;     ///< [word]: the last one
};

enum class Waiting : uint8_t { kNo, kLanes, kPoll };
/// Lanes that stand at one place of the program.
struct Group {
  uint32_t pc = 0, mask = 0;
  Waiting waiting = Waiting::kNo;
};

struct SharedRange {
  uint32_t address = 0, bytes = 0;
};

/// A cp.async of a lane.
struct Copy {
  uint32_t to = 0;
  uint64_t from = 0;
  uint32_t bytes = 0, filled = 0;  ///< read, and written with zeros behind
  int lane = 0;
  const Op* op = nullptr;
};

/// A TMA load or store of a box.
struct BulkCopy {
  const Op* op = nullptr;
  TensorMap map{};
  int32_t at[5] = {};
  uint32_t shared = 0, mbarrier = 0;
};

/// What a group of wgmmas reads, and the registers that it has; a register as often as it is named.
struct TensorGroup {
  std::vector<SharedRange> ranges{};
  std::vector<Register> registers{};
};
struct TensorState {
  TensorGroup open;
  std::deque<TensorGroup> groups;
  std::map<Register, int> in_flight;
  std::set<Register> dirty;  ///< written since the last wgmma.fence
  bool is_fenced = false;
};

struct Mbarrier {
  size_t agent = 0;
  int64_t expected = 0, pending = 0, bytes = 0;
  const Op* op = nullptr;  ///< that initialised it
  uint32_t phase = 0;
  bool is_fenced = false;  ///< visible to the async proxy
  Clocks seen{}, seen_async{}, done{}, done_async{};
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
  Clocks seen{}, seen_async{};  ///< by ordinary accesses, and by those through the async proxy
  int barrier = 0;
  uint64_t polls = 0;
  std::vector<Copy> open_copies;
  std::deque<std::vector<Copy>> copy_groups;
  std::vector<SharedRange> bulk_reads;
  TensorState tensor;

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
  const Op* op = nullptr;  ///< who came last
  std::vector<int> waiting;
  Clocks seen{}, seen_async{};
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
  std::array<Barrier, 17> barrier;  ///< the last: a cluster's, which is one block
  std::map<uint32_t, Mbarrier> mbarrier;
  std::deque<BulkCopy> bulk_copies;
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
/// After a wait in vain: other groups of the warp go on, then other warps.
void poll_again(Warp& warp);
void branch(Warp& warp, const Op& op);
void exit_lanes(Warp& warp, const Op& op);
/// Lanes that stand where the current ones do join them; the group of least pc goes on.
void reconverge(Warp& warp);

// Shared memory: bounds and alignment always, races and unwritten words where checks are on.
void read_shared(Warp& warp, const Op& op, uint32_t address, uint32_t bytes, int lane);
void write_shared(Warp& warp, const Op& op, uint32_t address, uint32_t bytes, int lane);
/// Through the async proxy, by what goes on until end_async_read.
void read_shared_async(Warp& warp, const Op& op, uint32_t address, uint32_t bytes, int lane);
void mark_async_read(Warp& warp, const SharedRange& range);
void end_async_read(Warp& warp, const SharedRange& range);
/// A copy into shared memory: nobody may touch the words until it ends, when they become as `word` says.
void start_copy(Warp& warp, const Op& op, uint32_t address, uint32_t bytes, int lane, uint32_t alignment);
void end_copy(Block& block, uint32_t address, uint32_t bytes, const SharedMemory::Word& word);
void count_shared(Warp& warp, const uint32_t* address, uint32_t mask, uint32_t bytes);
// Global memory, likewise.
void read_global(Warp& warp, const Op& op, uint64_t address, uint32_t bytes, int lane);
void read_global_aligned(Warp& warp, const Op& op, uint64_t address, uint32_t bytes, int lane, uint32_t alignment);
void write_global(Warp& warp, const Op& op, uint64_t address, uint32_t bytes, int lane);
void count_global(Warp& warp, const uint64_t* address, uint32_t mask, uint32_t bytes);

void land_copies(Warp& warp, size_t kept_groups);
void land_bulk_copy(Block& block, size_t which);
Mbarrier& mbarrier_at(Warp& warp, const Op& op, uint32_t address, int lane);
void step_phase(Block& block, Mbarrier& barrier);
/// Throws Fault where the block ends and an mbarrier is in mid-phase.
void check_phases(const Block& block);
/// wgmma's registers, before every instruction of a kernel that has wgmmas.
void check_tensor_registers(Warp& warp, const Op& op);

/// Generic addresses of shared memory begin here.
constexpr uint64_t kSharedWindow = 0x7d00'0000'0000'0000ull;

inline float from_bfloat16(uint32_t bits) { return std::bit_cast<float>(bits << 16); }
inline uint32_t to_bfloat16(float x) {
  if (x != x) return 0x7fff;
  const auto bits = std::bit_cast<uint32_t>(x);
  return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

}  // namespace fpdist::ptx
