// Branches, exits, and what becomes of lanes that went different ways. Least pc first: a warp's groups of lanes run in
// the order of their places, and join where they meet; nvcc lays blocks out so that this reconverges at once.
#include "tests/emulation/ptx/decode.hpp"
#include "tests/emulation/ptx/state.hpp"

namespace fpdist::ptx {
namespace {

/// The runnable group of least pc becomes the current one; false where none is.
bool pick(Warp& warp) {
  auto best = warp.others.end();
  for (auto group = warp.others.begin(); group != warp.others.end(); ++group)
    if (group->waiting == Waiting::kNo && (best == warp.others.end() || group->pc < best->pc)) best = group;
  if (best == warp.others.end()) return false;
  warp.pc = best->pc, warp.mask = best->mask;
  warp.others.erase(best);
  return true;
}

/// Groups that polled in vain try again; false where there are none.
bool wake_pollers(Warp& warp) {
  bool is_any = false;
  for (Group& group : warp.others)
    if (group.waiting == Waiting::kPoll) group.waiting = Waiting::kNo, is_any = true;
  return is_any;
}

}  // namespace

void reconverge(Warp& warp) {
  while (true) {
    std::erase_if(warp.others, [&](const Group& group) {
      if (group.pc != warp.pc) return false;
      warp.mask |= group.mask;
      return true;
    });
    uint32_t least = warp.pc;
    for (const Group& group : warp.others)
      if (group.waiting == Waiting::kNo) least = std::min(least, group.pc);
    if (least == warp.pc) return;
    warp.others.push_back({warp.pc, warp.mask});
    pick(warp);
  }
}

void wait_for_lanes(Warp& warp, const Op& op) {
  warp.others.push_back({warp.pc - 1, warp.mask, Waiting::kLanes});
  if (pick(warp)) return;
  if (wake_pollers(warp)) {
    pick(warp);
    warp.state = WarpState::kPolls;
    return;
  }
  std::string story = "needs all its lanes, but the warp is divergent:";
  for (const Group& group : warp.others)
    story += " lanes " + hex(group.mask) + " at " + warp.block->kernel->code[group.pc].place + ";";
  fail(warp, op, story);
}

bool all_lanes_here(Warp& warp, const Op& op) {
  if (warp.exec == warp.live && warp.others.empty()) return true;
  if (op.guard && warp.exec != warp.mask) fail(warp, op, "needs all its lanes, but its guard leaves some out");
  wait_for_lanes(warp, op);
  return false;
}

void poll_again(Warp& warp) {
  warp.others.push_back({warp.pc, warp.mask, Waiting::kPoll});
  if (pick(warp)) return;
  wake_pollers(warp);
  pick(warp);
  warp.state = WarpState::kPolls;
}

void exit_lanes(Warp& warp, const Op& op) {
  warp.live &= ~warp.exec, warp.mask &= ~warp.exec;
  // Who waited for these lanes looks again who is left.
  for (Group& group : warp.others) group.waiting = Waiting::kNo;
  if (warp.mask != 0 || pick(warp)) return;
  land_copies(warp, 0);
  if (!warp.tensor.in_flight.empty()) fail(warp, op, "ends a warp with a wgmma that was not waited for");
  warp.state = WarpState::kExited;
}

void branch(Warp& warp, const Op& op) {
  const uint32_t rest = warp.mask & ~warp.exec;
  if (rest != 0) warp.others.push_back({warp.pc, rest});
  warp.mask = warp.exec, warp.pc = op.target;
}

namespace {

void trap(Warp& warp, const Op& op) { fail(warp, op, "was reached"); }

}  // namespace

bool decode_control(Decoder& decoder, const Instruction& instruction, Op& op) {
  const std::string& name = instruction.name;
  if ((name == "bra" || name == "bra.uni") && instruction.operand.size() == 1) {
    op.flow = Flow::kBranch, op.run = branch;
    decoder.branch_to(instruction.operand[0]);
    return true;
  }
  if ((name == "ret" || name == "exit") && instruction.operand.empty()) {
    op.flow = Flow::kExit, op.run = exit_lanes;
    return true;
  }
  if (name == "trap") op.run = trap;
  return op.run != nullptr;
}

}  // namespace fpdist::ptx
