// What lanes do together: barriers, shuffles, votes.
#include "tests/emulation/ptx/decode.hpp"
#include "tests/emulation/ptx/state.hpp"

namespace fpdist::ptx {
namespace {

/// n: the barrier, m: threads, 0: all; or registers a and b. A barrier joins what its warps have seen; who only arrives
/// gives that and goes on.
template <bool kWaits>
void come_to_barrier(Warp& warp, const Op& op) {
  if (!all_lanes_here(warp, op)) return;
  Block& block = *warp.block;
  const uint32_t number = op.a ? warp.r(op.a)[std::countr_zero(warp.exec)] : static_cast<uint32_t>(op.n);
  const uint32_t threads = op.b ? warp.r(op.b)[std::countr_zero(warp.exec)] : static_cast<uint32_t>(op.m);
  if (number >= block.barrier.size()) fail(warp, op, "names barrier " + std::to_string(number));
  if (threads % 32 != 0) fail(warp, op, "waits for " + std::to_string(threads) + " threads, no whole warps");
  Barrier& barrier = block.barrier[number];
  const uint32_t expected = threads ? threads / 32 : static_cast<uint32_t>(block.warp.size());
  if (barrier.arrived > 0 && barrier.expected != expected) fail(warp, op, "expects another number than those waiting");
  ++block.counters->barriers;
  barrier.expected = expected, barrier.op = &op;
  join(barrier.seen, warp.seen), join(barrier.seen_async, warp.seen_async);
  if constexpr (kWaits) {
    barrier.waiting.push_back(warp.id);
    warp.barrier = static_cast<int>(number), warp.state = WarpState::kAtBarrier;
  } else {
    ++warp.seen[static_cast<size_t>(warp.id)];
  }
  if (++barrier.arrived < expected) return;
  for (const int id : barrier.waiting) {
    Warp& other = block.warp[static_cast<size_t>(id)];
    other.state = WarpState::kRuns, other.seen = barrier.seen, other.seen_async = barrier.seen_async;
    ++other.seen[static_cast<size_t>(id)];
  }
  barrier = {};
  block.has_progressed = true;
}

void nothing(Warp&, const Op&) {}

/// Of a cluster of one block: its barrier, and mbarriers are visible to the async proxy behind it.
void cluster_wait(Warp& warp, const Op& op) {
  for (auto& [address, barrier] : warp.block->mbarrier) barrier.is_fenced = true;
  come_to_barrier<true>(warp, op);
}

/// Also ends the warp's clock: what its lanes wrote before is seen by all of them.
void warp_sync(Warp& warp, const Op& op) {
  if (all_lanes_here(warp, op)) ++warp.seen[static_cast<size_t>(warp.id)];
}

enum Direction { kButterfly, kIndex, kDown, kUp };
/// a: value, b: lane, c: clamp in bits 0-4 and segment in 8-12, e: member mask, d2: whether the source was in range.
template <int kDirection>
void shuffle(Warp& warp, const Op& op) {
  const uint32_t members = warp.r(op.e)[std::countr_zero(warp.exec)];
  if (const uint32_t gone = members & warp.born & ~warp.live; gone != 0)
    fail(warp, op, "names lanes that have exited: " + hex(gone));
  if ((warp.exec & members) != (members & warp.live)) return wait_for_lanes(warp, op);
  uint32_t value[32], result[32], in_range = 0;
  std::memcpy(value, warp.r(op.a), sizeof value);
  each_lane(warp.exec, [&](int lane) {
    const uint32_t by = warp.r(op.b)[lane] & 31, control = warp.r(op.c)[lane], segment = control >> 8 & 31;
    const auto self = static_cast<uint32_t>(lane);
    const int last = static_cast<int>((self & segment) | (control & 31 & ~segment));
    const int from = kDirection == kButterfly ? static_cast<int>(self ^ by)
                     : kDirection == kIndex   ? static_cast<int>((self & segment) | (by & ~segment))
                     : kDirection == kDown    ? lane + static_cast<int>(by)
                                              : lane - static_cast<int>(by);
    const bool is_in = kDirection == kUp ? from >= last : from <= last;
    const int source = is_in ? from : lane;
    if (!(warp.exec >> source & 1))
      fail(warp, op, "reads lane " + std::to_string(source) + ", which is not there", lane);
    result[lane] = value[source], in_range |= static_cast<uint32_t>(is_in) << lane;
  });
  put<uint32_t>(warp, op.d, [&](int i) { return result[i]; });
  if (op.d2) put_predicate(warp, op.d2, in_range);
}

void ballot(Warp& warp, const Op& op) {
  if (!all_lanes_here(warp, op)) return;
  const uint32_t votes = warp.p(op.a) & warp.exec;
  put<uint32_t>(warp, op.d, [&](int) { return votes; });
}

bool decode_barrier(Decoder& decoder, const Instruction& instruction, Op& op) {
  const auto number = [&](const std::string& operand, int32_t& constant, Register& reg) {
    if (operand[0] == '%')
      reg = decoder.read(op, operand, Width::k32);
    else
      constant = std::stoi(operand);
  };
  if (instruction.operand.empty() || instruction.operand.size() > 2) return false;
  if (instruction.name == "bar.arrive" && instruction.operand.size() != 2) return false;
  op.run = instruction.part[1] == "arrive" ? come_to_barrier<false> : come_to_barrier<true>;
  number(instruction.operand[0], op.n, op.a);
  if (instruction.operand.size() == 2) number(instruction.operand[1], op.m, op.b);
  return true;
}

bool decode_shuffle(Decoder& decoder, const Instruction& instruction, Op& op) {
  static const std::map<std::string, Function> kNames = {{"shfl.sync.bfly.b32", shuffle<kButterfly>},
                                                         {"shfl.sync.idx.b32", shuffle<kIndex>},
                                                         {"shfl.sync.down.b32", shuffle<kDown>},
                                                         {"shfl.sync.up.b32", shuffle<kUp>}};
  const auto found = kNames.find(instruction.name);
  if (found == kNames.end() || instruction.operand.size() != 5) return false;
  op.run = found->second;
  const std::vector<std::string> to = split(instruction.operand[0], '|');
  op.d = decoder.write(op, to[0], Width::k32);
  if (to.size() > 1) op.d2 = decoder.write(op, to[1], Width::kPredicate);
  Register* const place[] = {&op.a, &op.b, &op.c, &op.e};
  for (size_t i = 0; i < 4; ++i) *place[i] = decoder.read(op, instruction.operand[i + 1], Width::k32);
  return true;
}

}  // namespace

bool decode_warp(Decoder& decoder, const Instruction& instruction, Op& op) {
  const std::string& name = instruction.name;
  if (name == "bar.sync" || name == "bar.arrive" || name == "barrier.sync" || name == "barrier.sync.aligned" ||
      name == "barrier.cta.sync")
    return decode_barrier(decoder, instruction, op);
  if (name == "barrier.cluster.arrive.aligned" || name == "barrier.cluster.arrive.release.aligned")
    return op.run = nothing, true;
  if (name == "barrier.cluster.wait.aligned" || name == "barrier.cluster.wait.acquire.aligned")
    return op.run = cluster_wait, op.n = 16, true;
  if (name == "bar.warp.sync" && instruction.operand.size() == 1) {
    op.run = warp_sync, op.a = decoder.read(op, instruction.operand[0], Width::k32);
    return true;
  }
  if (name == "vote.sync.ballot.b32" && instruction.operand.size() == 3) {
    op.run = ballot, op.d = decoder.write(op, instruction.operand[0], Width::k32);
    op.a = decoder.read(op, instruction.operand[1], Width::kPredicate);
    op.b = decoder.read(op, instruction.operand[2], Width::k32);
    return true;
  }
  return decode_shuffle(decoder, instruction, op);
}

}  // namespace fpdist::ptx
