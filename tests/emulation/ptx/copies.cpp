// cp.async: copies from global to shared memory that land as late as they may: at the wait that covers them. Until then
// nobody may touch their words; afterwards they count as written by the thread that copied.
#include "tests/emulation/ptx/decode.hpp"
#include "tests/emulation/ptx/state.hpp"

namespace fpdist::ptx {
namespace {

/// a: shared, b: global, n: bytes, m: displacement of the global address, c: bytes of the source; the rest is zeros.
void copy(Warp& warp, const Op& op) {
  const auto bytes = static_cast<uint32_t>(op.n);
  uint64_t global[32];
  uint32_t shared[32], reading = 0;
  each_lane(warp.exec, [&](int lane) {
    Copy one{.to = warp.r(op.a)[lane] + static_cast<uint32_t>(op.offset),
             .from = warp.d(op.b)[lane] + static_cast<uint64_t>(op.m),
             .bytes = op.c ? warp.r(op.c)[lane] : bytes,
             .filled = bytes,
             .lane = lane,
             .op = &op};
    if (one.bytes > bytes) fail(warp, op, "copies more than its size", lane);
    if (one.bytes > 0) {
      read_global_aligned(warp, op, one.from, one.bytes, lane, bytes);
      global[lane] = one.from, reading |= 1u << lane;
    }
    start_copy(warp, op, one.to, bytes, lane, bytes);
    shared[lane] = one.to;
    warp.open_copies.push_back(one);
  });
  if (reading) count_global(warp, global, reading, bytes);
  count_shared(warp, shared, warp.exec, bytes);
}

void commit(Warp& warp, const Op& op) {
  if (!all_lanes_here(warp, op)) return;
  warp.copy_groups.push_back(std::move(warp.open_copies));
  warp.open_copies.clear();
}

/// n: groups that may stay under way; below 0: not even what no group holds yet.
void wait(Warp& warp, const Op& op) {
  if (!all_lanes_here(warp, op)) return;
  if (op.n < 0) {
    warp.copy_groups.push_back(std::move(warp.open_copies));
    warp.open_copies.clear();
  }
  land_copies(warp, static_cast<size_t>(std::max(op.n, 0)));
}

bool decode_copy(Decoder& decoder, const Instruction& instruction, Op& op) {
  const std::vector<std::string>& operand = instruction.operand;
  const std::string& name = instruction.name;
  const bool is_16_only = name.starts_with("cp.async.cg.");
  if (operand.size() < 3 || operand.size() > 4) return false;
  op.b = decoder.read_address(op, operand[1], Width::k64);
  op.m = static_cast<int32_t>(op.offset);
  op.a = decoder.read_address(op, operand[0], Width::k32);
  op.n = std::stoi(operand[2]);
  if (op.n != 16 && (is_16_only || (op.n != 4 && op.n != 8))) decoder.refuse("copies another size than it may");
  if (operand.size() == 4) op.c = decoder.read(op, operand[3], Width::k32);
  op.run = copy;
  return true;
}

}  // namespace

void land_copies(Warp& warp, size_t kept_groups) {
  while (warp.copy_groups.size() > kept_groups) {
    for (const Copy& one : warp.copy_groups.front()) {
      uint8_t* const to = warp.block->shared.bytes.data() + one.to;
      std::memcpy(to, reinterpret_cast<const void*>(one.from), one.bytes);
      std::memset(to + one.bytes, 0, one.filled - one.bytes);
      const auto self = static_cast<size_t>(warp.id);
      end_copy(*warp.block, one.to, one.filled,
               {.written = 15,
                .lane = static_cast<uint8_t>(one.lane),
                .writer = static_cast<uint16_t>(self),
                .clock = warp.seen[self],
                .op = one.op});
    }
    warp.copy_groups.pop_front();
  }
}

bool decode_copies(Decoder& decoder, const Instruction& instruction, Op& op) {
  static const std::set<std::string> kCopies = {
      "cp.async.cg.shared.global",      "cp.async.ca.shared.global",          "cp.async.cg.shared::cta.global",
      "cp.async.ca.shared::cta.global", "cp.async.cg.shared.global.L2::128B", "cp.async.ca.shared.global.L2::128B"};
  const std::string& name = instruction.name;
  if (kCopies.contains(name)) return decode_copy(decoder, instruction, op);
  if (name == "cp.async.commit_group") op.run = commit;
  if (name == "cp.async.wait_all") op.run = wait, op.n = -1;
  if (name == "cp.async.wait_group" && instruction.operand.size() == 1)
    op.run = wait, op.n = std::stoi(instruction.operand[0]);
  return op.run != nullptr;
}

}  // namespace fpdist::ptx
