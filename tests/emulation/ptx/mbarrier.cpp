// mbarriers: a phase ends when nobody is still expected and no bytes are; then the next begins. Who arrives gives what
// its warp has seen to the phase, who waits for it takes that. Also the fences that make writes and barriers visible to
// the async proxy, which TMA and wgmma go through.
#include "tests/emulation/ptx/decode.hpp"
#include "tests/emulation/ptx/state.hpp"

namespace fpdist::ptx {
namespace {

uint32_t address_of(Warp& warp, const Op& op, int lane) {
  return warp.r(op.a)[lane] + static_cast<uint32_t>(op.offset);
}

void initialise(Warp& warp, const Op& op) {
  Block& block = *warp.block;
  each_lane(warp.exec, [&](int lane) {
    const uint32_t address = address_of(warp, op, lane);
    write_shared(warp, op, address, 8, lane);
    const size_t number = block.mbarrier.size();
    if (number >= kMostMbarriers) fail(warp, op, "is one mbarrier more than the machine holds", lane);
    const int64_t count = warp.r(op.b)[lane];
    block.mbarrier[address] = {.agent = kWarps + number, .expected = count, .pending = count, .op = &op};
  });
}

/// m: what it does. Bytes are expected before the arrival.
enum Arrival : int32_t { kArrive = 0, kExpectAndArrive = 1, kExpect = 2 };
void arrive(Warp& warp, const Op& op) {
  each_lane(warp.exec, [&](int lane) {
    const uint32_t address = address_of(warp, op, lane);
    Mbarrier& barrier = mbarrier_at(warp, op, address, lane);
    read_shared(warp, op, address, 8, lane);
    if (op.m != kArrive) barrier.bytes += warp.r(op.b)[lane];
    if (op.m != kExpect) {
      if (barrier.pending == 0) fail(warp, op, "arrives more often than the mbarrier was initialised for", lane);
      --barrier.pending;
    }
    join(barrier.seen, warp.seen), join(barrier.seen_async, warp.seen_async);
    step_phase(*warp.block, barrier);
  });
  ++warp.seen[static_cast<size_t>(warp.id)];
}

/// d: whether the phase of parity b is over.
void wait_parity(Warp& warp, const Op& op) {
  uint32_t over = 0;
  each_lane(warp.exec, [&](int lane) {
    const uint32_t address = address_of(warp, op, lane);
    const Mbarrier& barrier = mbarrier_at(warp, op, address, lane);
    read_shared(warp, op, address, 8, lane);
    if ((barrier.phase & 1) == (warp.r(op.b)[lane] & 1)) return;
    over |= 1u << lane;
    join(warp.seen, barrier.done), join(warp.seen_async, barrier.done_async);
  });
  put_predicate(warp, op.d, over);
  if (over == warp.exec) {
    warp.block->has_progressed = true;
    return;
  }
  ++warp.polls;
  poll_again(warp);
}

void fence_async(Warp& warp, const Op&) { warp.seen_async = warp.seen; }
void fence_mbarriers(Warp& warp, const Op&) {
  for (auto& [address, barrier] : warp.block->mbarrier) barrier.is_fenced = true;
}
void fence_both(Warp& warp, const Op& op) { fence_async(warp, op), fence_mbarriers(warp, op); }

/// The lowest of the lanes here.
void elect(Warp& warp, const Op& op) {
  if (!all_lanes_here(warp, op)) return;
  const int lane = std::countr_zero(warp.exec);
  put<uint32_t>(warp, op.d, [&](int) { return static_cast<uint32_t>(lane); });
  put_predicate(warp, op.d2, 1u << lane);
}

void nothing(Warp&, const Op&) {}

bool decode_arrival(Decoder& decoder, const Instruction& instruction, Op& op, Arrival how) {
  const std::vector<std::string>& operand = instruction.operand;
  const size_t first = how == kExpect ? 0 : 1;  // behind "_", the state nobody asks for
  if (operand.size() != first + (how == kArrive ? 1 : 2) || (first == 1 && operand[0] != "_")) return false;
  op.run = arrive, op.m = how;
  op.a = decoder.read_address(op, operand[first], Width::k32);
  if (how != kArrive) op.b = decoder.read(op, operand[first + 1], Width::k32);
  return true;
}

bool decode_fence(const Instruction& instruction, Op& op) {
  static const std::map<std::string, Function> kFences = {{"fence.proxy.async", fence_both},
                                                          {"fence.proxy.async.shared::cta", fence_both},
                                                          {"fence.mbarrier_init.release.cluster", fence_mbarriers},
                                                          {"setmaxnreg.inc.sync.aligned.u32", nothing},
                                                          {"setmaxnreg.dec.sync.aligned.u32", nothing}};
  const auto found = kFences.find(instruction.name);
  if (found == kFences.end()) return false;
  op.run = found->second;
  return true;
}

}  // namespace

Mbarrier& mbarrier_at(Warp& warp, const Op& op, uint32_t address, int lane) {
  const auto found = warp.block->mbarrier.find(address);
  if (found == warp.block->mbarrier.end()) fail(warp, op, "uses no initialised mbarrier: " + hex(address), lane);
  return found->second;
}

void step_phase(Block& block, Mbarrier& barrier) {
  if (barrier.pending != 0 || barrier.bytes != 0) return;
  ++barrier.phase;
  barrier.pending = barrier.expected;
  barrier.done = barrier.seen, barrier.done_async = barrier.seen_async;
  barrier.done[barrier.agent] = barrier.phase;  // what the phase's bulk copies wrote
  block.has_progressed = true;
}

void check_phases(const Block& block) {
  for (const auto& [address, barrier] : block.mbarrier) {
    if (barrier.pending == barrier.expected && barrier.bytes == 0) continue;
    throw Fault(block.kernel->name + ": the block ends in mid-phase of the mbarrier initialised at " +
                barrier.op->place + ": " + std::to_string(barrier.expected - barrier.pending) + " of " +
                std::to_string(barrier.expected) + " arrivals, " + std::to_string(barrier.bytes) + " bytes to come");
  }
}

bool decode_mbarrier(Decoder& decoder, const Instruction& instruction, Op& op) {
  const std::string& name = instruction.name;
  const std::vector<std::string>& operand = instruction.operand;
  if (decode_fence(instruction, op)) return true;
  if (name == "mbarrier.init.shared::cta.b64" || name == "mbarrier.init.shared.b64") {
    if (operand.size() != 2) return false;
    op.run = initialise, op.a = decoder.read_address(op, operand[0], Width::k32);
    op.b = decoder.read(op, operand[1], Width::k32);
    return true;
  }
  if (name == "mbarrier.arrive.shared::cta.b64") return decode_arrival(decoder, instruction, op, kArrive);
  if (name == "mbarrier.arrive.expect_tx.shared::cta.b64")
    return decode_arrival(decoder, instruction, op, kExpectAndArrive);
  if (name == "mbarrier.expect_tx.shared::cta.b64") return decode_arrival(decoder, instruction, op, kExpect);
  if (name == "mbarrier.try_wait.parity.shared::cta.b64" || name == "mbarrier.test_wait.parity.shared::cta.b64") {
    if (operand.size() < 3) return false;
    op.run = wait_parity, op.d = decoder.write(op, operand[0], Width::kPredicate);
    op.a = decoder.read_address(op, operand[1], Width::k32), op.b = decoder.read(op, operand[2], Width::k32);
    return true;
  }
  if (name != "elect.sync" || operand.size() != 2) return false;
  const std::vector<std::string> to = split(operand[0], '|');
  if (to.size() != 2) return false;
  op.run = elect, op.d = decoder.write(op, to[0], Width::k32), op.d2 = decoder.write(op, to[1], Width::kPredicate);
  op.e = decoder.read(op, operand[1], Width::k32);
  return true;
}

}  // namespace fpdist::ptx
