// Blocks one after another; in a block the warps in turns, each for some instructions. A block in which nobody can go
// on is a deadlock, told with where every warp stands.
#include <algorithm>
#include <cstdlib>
#include <memory>
#include <numeric>

#include "tests/emulation/ptx/state.hpp"

namespace fpdist::ptx {
namespace {

constexpr uint32_t kMostShared = 228 << 10;  // of an SM, the system's part among it

/// Until the turn is over or the warp waits.
void take_turn(Warp& warp) {
  Block& block = *warp.block;
  const Op* const code = block.kernel->code.data();
  const bool watches_tensor = block.kernel->has_wgmma && block.options->has_checks;
  uint64_t instructions = 0, lanes = 0;
  for (Group& group : warp.others)
    if (group.waiting == Waiting::kPoll) group.waiting = Waiting::kNo;
  for (int left = block.options->turn; left > 0 && warp.state == WarpState::kRuns; --left) {
    const Op& op = code[warp.pc++];
    warp.exec = warp.mask;
    if (op.guard) warp.exec &= op.is_guard_negated ? ~warp.p(op.guard) : warp.p(op.guard);
    ++instructions;
    if (warp.exec != 0) {
      lanes += static_cast<uint64_t>(std::popcount(warp.exec));
      if (block.options->counts_instructions) ++block.counters->by_instruction[op.text.substr(0, op.text.find(' '))];
      if (watches_tensor) check_tensor_registers(warp, op);
      op.run(warp, op);
    }
    if (!warp.others.empty() && warp.state == WarpState::kRuns) reconverge(warp);
  }
  block.counters->warp_instructions += instructions, block.counters->lane_instructions += lanes;
}

[[noreturn]] void report_deadlock(const Block& block) {
  std::string story = block.kernel->name + ": deadlock in block (" + std::to_string(block.at[0]) + "," +
                      std::to_string(block.at[1]) + "," + std::to_string(block.at[2]) + "):";
  int exited = 0;
  for (const Warp& warp : block.warp) {
    if (warp.state == WarpState::kExited) {
      ++exited;
      continue;
    }
    const Op& op = block.kernel->code[warp.pc - 1];
    story += " warp " + std::to_string(warp.id) +
             (warp.state == WarpState::kAtBarrier ? " waits at barrier " + std::to_string(warp.barrier) : " polls") +
             ", " + op.place + ": `" + op.text + "`;";
  }
  throw Fault(story + " " + std::to_string(exited) + " warps have exited");
}

void land_one(Block& block) {
  land_bulk_copy(block, block.options->seed != 0 ? block.random() % block.bulk_copies.size() : 0);
}

/// Who only arrives does not see that nobody waits.
void check_barriers(const Block& block) {
  for (size_t i = 0; i < block.barrier.size(); ++i) {
    const Barrier& barrier = block.barrier[i];
    if (barrier.arrived == 0) continue;
    throw Fault(block.kernel->name + ": the block ends with " + std::to_string(barrier.arrived) + " of " +
                std::to_string(barrier.expected) + " warps come to barrier " + std::to_string(i) + ", the last at " +
                barrier.op->place);
  }
}

void run_block(Block& block) {
  std::vector<size_t> order(block.warp.size());
  std::iota(order.begin(), order.end(), 0);
  for (int idle = 0;;) {
    block.has_progressed = false;
    if (block.options->seed != 0) std::shuffle(order.begin(), order.end(), block.random);
    bool is_over = true, has_run = false;
    for (const size_t i : order) {
      Warp& warp = block.warp[i];
      if (warp.state == WarpState::kExited) continue;
      is_over = false;
      if (warp.state == WarpState::kPolls) warp.state = WarpState::kRuns;
      if (warp.state == WarpState::kAtBarrier) continue;
      const uint64_t polls = warp.polls;
      take_turn(warp);
      has_run = has_run || warp.polls == polls;
    }
    if (is_over) break;
    idle = has_run || block.has_progressed ? 0 : idle + 1;
    if (idle > 0 && !block.bulk_copies.empty()) land_one(block), idle = 0;
    if (idle > 3) report_deadlock(block);
  }
  while (!block.bulk_copies.empty()) land_one(block);
  if (block.options->has_checks) check_phases(block), check_barriers(block);
}

uint32_t special_value(const Block& block, Special which, uint32_t warp, uint32_t lane) {
  const uint32_t thread = warp * 32 + lane;
  const auto& size = block.size;
  const auto index = static_cast<size_t>(which);
  switch (which) {
    case Special::kTidX:
      return thread % size[0];
    case Special::kTidY:
      return thread / size[0] % size[1];
    case Special::kTidZ:
      return thread / size[0] / size[1];
    case Special::kLaneId:
      return lane;
    case Special::kWarpId:
      return warp;
    case Special::kLaneMaskLt:
      return (1u << lane) - 1;
    case Special::kDynamicShared:
      return block.dynamic_shared;
    default:
      return (index < 6 ? block.at : index < 9 ? block.size : block.grid)[index % 3];
  }
}

/// All ones where nothing was written: NaN in float32 and in bfloat16.
void fill_registers(Warp& warp) {
  const Kernel& kernel = *warp.block->kernel;
  warp.r32.assign(size_t{kernel.registers[0]} * 32, ~0u);
  warp.r64.assign(size_t{kernel.registers[1]} * 32, ~uint64_t{0});
  warp.predicate.assign(kernel.registers[2], 0);
  warp.exec = ~0u;
  for (const auto& [reg, value] : kernel.constant) {
    if (reg.width == Width::kPredicate)
      warp.p(reg) = value != 0 ? ~0u : 0u;
    else if (reg.width == Width::k64)
      put<uint64_t>(warp, reg, [&, value = value](int) { return value; });
    else
      put<uint32_t>(warp, reg, [&, value = value](int) { return static_cast<uint32_t>(value); });
  }
  for (const auto& [reg, which] : kernel.special)
    put<uint32_t>(warp, reg, [&, which = which](int lane) {
      return special_value(*warp.block, which, static_cast<uint32_t>(warp.id), static_cast<uint32_t>(lane));
    });
}

void start_block(Block& block, uint32_t shared_bytes) {
  const size_t words = (shared_bytes + 3) / 4;
  block.shared.bytes.assign(words * 4, 0xff);
  block.shared.word.assign(words, {});
  block.shared.read_clock.assign(words * block.warp.size(), 0);
  block.shared.reader.assign(words, nullptr);
  block.barrier = {}, block.mbarrier.clear(), block.bulk_copies.clear();
  block.random.seed(block.options->seed * 7919 + block.number);
  uint32_t threads = block.size[0] * block.size[1] * block.size[2];
  for (size_t i = 0; i < block.warp.size(); ++i, threads -= std::min(threads, 32u)) {
    Warp& warp = block.warp[i];
    warp.block = &block, warp.id = static_cast<int>(i), warp.pc = 0, warp.polls = 0;
    warp.state = WarpState::kRuns, warp.others.clear();
    warp.born = warp.live = warp.mask = threads >= 32 ? ~0u : (1u << threads) - 1;
    fill_registers(warp);
    warp.open_copies.clear(), warp.copy_groups.clear(), warp.bulk_reads.clear(), warp.tensor = {};
    warp.seen.fill(0), warp.seen_async.fill(0);
    warp.seen[i] = 1;
  }
}

void check_launch(const Kernel& kernel, const Launch& launch, uint32_t shared_bytes) {
  const auto& size = launch.block;
  const uint64_t threads = uint64_t{size[0]} * size[1] * size[2];
  const auto check = [&](bool is_right, const std::string& what) {
    if (!is_right) throw Fault(kernel.name + ": a launch " + what);
  };
  check(threads > 0 && threads <= 1024 && size[2] <= 64, "of " + std::to_string(threads) + " threads a block");
  check(kernel.max_threads == 0 || threads <= kernel.max_threads, "of more threads than .maxntid");
  check(launch.grid[0] > 0 && launch.grid[1] > 0 && launch.grid[2] > 0, "of no blocks");
  check(launch.grid[0] <= 0x7fffffff && launch.grid[1] <= 65535 && launch.grid[2] <= 65535, "of too large a grid");
  check(shared_bytes <= kMostShared, "with " + std::to_string(shared_bytes) + " bytes of shared memory");
  check(launch.parameters.size() == kernel.parameter_bytes, "with other parameters than the kernel's");
}

}  // namespace

void run(const Kernel& kernel, const Launch& launch, GlobalMemory& memory, const Options& options, Counters& counters) {
  Block block;
  block.kernel = &kernel, block.options = &options, block.memory = &memory, block.counters = &counters;
  block.grid = launch.grid, block.size = launch.block;
  const uint32_t to = kernel.dynamic_alignment;
  block.dynamic_shared = (kernel.shared_end + to - 1) / to * to;
  const uint32_t shared_bytes =
      launch.dynamic_shared > 0 ? block.dynamic_shared + launch.dynamic_shared : kernel.shared_end;
  check_launch(kernel, launch, shared_bytes);
  const size_t held = (std::max<size_t>(launch.parameters.size(), 1) + 127) / 128 * 128;
  const std::unique_ptr<void, void (*)(void*)> parameters(std::aligned_alloc(128, held), std::free);
  std::memcpy(parameters.get(), launch.parameters.data(), launch.parameters.size());
  block.parameters = static_cast<uint8_t*>(parameters.get());
  const auto begin = reinterpret_cast<uint64_t>(parameters.get());
  block.extent.push_back({begin, begin + launch.parameters.size()});
  block.warp.resize((launch.block[0] * launch.block[1] * launch.block[2] + 31) / 32);
  memory.start_launch();
  ++counters.launches;
  const uint64_t blocks = uint64_t{launch.grid[0]} * launch.grid[1] * launch.grid[2];
  std::vector<uint32_t> order(blocks);
  std::iota(order.begin(), order.end(), 0);
  if (options.seed != 0) std::shuffle(order.begin(), order.end(), std::mt19937_64(options.seed));
  for (const uint32_t number : order) {
    block.number = number;
    block.at = {number % launch.grid[0], number / launch.grid[0] % launch.grid[1],
                number / launch.grid[0] / launch.grid[1]};
    start_block(block, shared_bytes);
    run_block(block);
  }
}

}  // namespace fpdist::ptx
