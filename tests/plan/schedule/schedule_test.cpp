#include "fpdist/plan/schedule.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/core/rng.hpp"
#include "src/core/index.hpp"
#include "tests/support/plan/pipeline_shapes.hpp"

namespace fpdist::plan {
namespace {

using test::random_shape, test::whole_packs;

using Lists = std::vector<std::vector<Op>>;

std::string describe(const PipelineShape& shape) {
  std::string slices;
  for (const int count : shape.slices) slices += text(' ', count);
  return text(name_of(shape.schedule), " p=", shape.stages, " v=", shape.runs, " K=", shape.window, " slices", slices);
}

void for_whole_packs(const std::function<void(const PipelineShape&)>& law) {
  for (int p = 1; p <= 8; ++p)
    for (int m = 0; m <= 32; ++m) {
      law(whole_packs(Schedule::k1F1B, p, m));
      law(whole_packs(Schedule::kZeroBubble, p, m));
      for (int v = 1; v <= 4 && m % p == 0; ++v) law(whole_packs(Schedule::kInterleaved, p, m, v));
    }
}

void for_sliced_packs(const std::function<void(const PipelineShape&)>& law) {
  for (uint64_t seed = 0; seed < 600; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    Rng rng(seed, 4);
    law(random_shape(rng, {.stages = 8, .runs = 4, .packs = 10, .slices = 0}));
  }
}

TEST(Schedule, EveryListOfWholePacksValidatesWithinItsWindow) {
  for_whole_packs([](const PipelineShape& shape) {
    const int p = shape.stages, v = shape.runs;
    // In runs of units: p for 1F1B and ZB-H1, (v-1)p + 2(p-1) + 1 for interleaving.
    const int most = shape.schedule == Schedule::kInterleaved ? ((v - 1) * p + 2 * (p - 1) + v) / v : p;
    ASSERT_EQ(validate_ops(shape, pipeline_ops(shape), most), "") << describe(shape);
  });
}

TEST(Schedule, EveryListOfSlicedPacksValidates) {
  for_sliced_packs([](const PipelineShape& shape) {
    ASSERT_EQ(validate_ops(shape, pipeline_ops(shape)), "") << describe(shape);
    ASSERT_EQ(validate_ops(shape, forward_ops(shape)), "") << describe(shape);
  });
}

TEST(Schedule, ForwardListsHoldTheForwardsAndTheirMessagesOnly) {
  for_whole_packs([](const PipelineShape& shape) {
    const Lists ops = forward_ops(shape);
    ASSERT_EQ(validate_ops(shape, ops), "") << describe(shape);
    for (const auto& list : ops)
      for (const Op& op : list)
        ASSERT_TRUE(op.kind == OpKind::kForward || op.kind == OpKind::kSend || op.kind == OpKind::kReceive);
  });
}

TEST(Schedule, TheLastBackwardOfARunCompletesItsGradientsAndNoOtherOpDoes) {
  const auto law = [](const PipelineShape& shape) {
    const bool is_split = shape.schedule == Schedule::kZeroBubble;
    for (const std::vector<Op>& list : pipeline_ops(shape)) {
      std::vector<size_t> last(index(shape.runs), list.size());
      for (size_t i = 0; i < list.size(); ++i)
        if (list[i].kind == (is_split ? OpKind::kBackwardWeight : OpKind::kBackwardInput)) last[index(list[i].run)] = i;
      for (size_t i = 0; i < list.size(); ++i)
        ASSERT_EQ(list[i].completes, i == last[index(list[i].run)])
            << describe(shape) << ", op " << i << ' ' << to_string(list[i]);
    }
    for (const std::vector<Op>& list : forward_ops(shape))
      for (const Op& op : list) ASSERT_FALSE(op.completes);
  };
  for_whole_packs(law);
  for_sliced_packs(law);
}

TEST(Schedule, ListsAreThePublishedOnes) {
  EXPECT_EQ(to_text(pipeline_ops(whole_packs(Schedule::k1F1B, 2, 3))),
            "stage 0: F0 S0>1 F1 S1>1 RG0<1 B0 W0 F2 S2>1 RG1<1 B1 W1 RG2<1 B2 W2 reduce@0 step\n"
            "stage 1: R0<0 F0 B0 W0 SG0>0 R1<0 F1 B1 W1 SG1>0 R2<0 F2 B2 W2 SG2>0 reduce@0 step\n");
  EXPECT_EQ(to_text(pipeline_ops(whole_packs(Schedule::kZeroBubble, 2, 3))),
            "stage 0: F0 S0>1 F1 S1>1 RG0<1 B0 W0 F2 S2>1 RG1<1 B1 W1 RG2<1 B2 W2 reduce@0 step\n"
            "stage 1: R0<0 F0 B0 SG0>0 R1<0 F1 B1 SG1>0 W0 R2<0 F2 B2 SG2>0 W1 W2 reduce@0 step\n");
  EXPECT_EQ(to_text(pipeline_ops(whole_packs(Schedule::kInterleaved, 2, 2, 2))),
            "stage 0: F0 S0>1 F1 S1>1 R0@1<1 F0@1 S0@1>1 R1@1<1 F1@1 S1@1>1 RG0@1<1 B0@1 W0@1 SG0@1>1 "
            "RG1@1<1 B1@1 W1@1 SG1@1>1 reduce@1 RG0<1 B0 W0 RG1<1 B1 W1 reduce@0 step\n"
            "stage 1: R0<0 F0 S0>0 R1<0 F1 S1>0 R0@1<0 F0@1 B0@1 W0@1 SG0@1>0 R1@1<0 F1@1 B1@1 W1@1 SG1@1>0 "
            "reduce@1 RG0<0 B0 W0 SG0>0 RG1<0 B1 W1 SG1>0 reduce@0 step\n");
  EXPECT_EQ(to_text(pipeline_ops({Schedule::k1F1B, 1, 1, {3}, 1})),
            "stage 0: F0 F0.1 F0.2 B0.2 W0.2 B0.1 W0.1 B0 W0 reduce@0 step\n");
}

TEST(Schedule, OneStageNeedsNoMessages) {
  for (const int v : {1, 2, 3}) {
    const Lists ops = pipeline_ops(whole_packs(Schedule::kInterleaved, 1, 5, v));
    for (const Op& op : ops[0]) ASSERT_EQ(op.peer, -1);
  }
}

TEST(Schedule, NoPacksReduceAndStep) {
  EXPECT_EQ(to_text(pipeline_ops(whole_packs(Schedule::kInterleaved, 2, 0, 2))),
            "stage 0: reduce@1 reduce@0 step\nstage 1: reduce@1 reduce@0 step\n");
  EXPECT_EQ(to_text(pipeline_ops(whole_packs(Schedule::k1F1B, 1, 0))), "stage 0: reduce@0 step\n");
  EXPECT_EQ(to_text(forward_ops(whole_packs(Schedule::k1F1B, 2, 0))), "stage 0:\nstage 1:\n");
}

TEST(Schedule, TheWindowIsExtraForwardsBeforeEachBackward) {
  PipelineShape shape = whole_packs(Schedule::k1F1B, 2, 6);
  shape.window = 3;
  const Lists ops = pipeline_ops(shape);
  EXPECT_EQ(validate_ops(shape, ops, 4), "");
  EXPECT_NE(validate_ops(shape, ops, 3).find("makes 4 runs of units in flight, the window is 3"), std::string::npos);
}

TEST(Schedule, ShapesThatDoNotWorkSayTheSmallestChange) {
  const auto reason = [](const PipelineShape& shape) {
    EXPECT_THROW(pipeline_ops(shape), ConfigError);
    EXPECT_THROW(forward_ops(shape), ConfigError);
    EXPECT_EQ(validate_ops(shape, Lists{}), why_not(shape));
    return why_not(shape);
  };
  EXPECT_EQ(reason(whole_packs(Schedule::kInterleaved, 4, 7, 2)),
            "the interleaved schedule needs a multiple of 4 packs or slices, there are 7: make 1 more or 3 fewer");
  EXPECT_EQ(reason(whole_packs(Schedule::k1F1B, 4, 7, 2)),
            "the 1f1b schedule holds one run of layers a stage, not 2: set parallel.virtual_stages to 1 or "
            "parallel.schedule to interleaved");
  EXPECT_NE(reason(whole_packs(Schedule::k1F1B, 0, 7)).find("must be 1 or more"), std::string::npos);
  EXPECT_EQ(reason({Schedule::k1F1B, 1, 1, {1, 0}, 1}), "pack 1 has 0 slices: a whole pack counts as 1");
  EXPECT_EQ(why_not(whole_packs(Schedule::kInterleaved, 4, 8, 2)), "");
  EXPECT_EQ(why_not(whole_packs(Schedule::kInterleaved, 4, 0, 2)), "");
}

/// A shape's lists after `harm`; what the validator says about them.
std::string verdict(const PipelineShape& shape, const std::function<void(Lists&)>& harm, int window = 0) {
  Lists ops = pipeline_ops(shape);
  harm(ops);
  return validate_ops(shape, ops, window);
}

size_t find(const std::vector<Op>& list, const std::string& name) {
  for (size_t i = 0; i < list.size(); ++i)
    if (to_string(list[i]) == name) return i;
  ADD_FAILURE() << "no " << name;
  return 0;
}
void drop(std::vector<Op>& list, const std::string& name) {
  list.erase(list.begin() + static_cast<std::ptrdiff_t>(find(list, name)));
}
void exchange(std::vector<Op>& list, const std::string& a, const std::string& b) {
  std::swap(list[find(list, a)], list[find(list, b)]);
}

TEST(ScheduleValidator, RefusesBrokenListsWithTheRightWords) {
  const PipelineShape plain = whole_packs(Schedule::k1F1B, 2, 3);
  const auto says = [&](const std::string& expected, const std::function<void(Lists&)>& harm) {
    const std::string said = verdict(plain, harm);
    EXPECT_NE(said.find(expected), std::string::npos) << said;
  };
  says("stage 1, op 0 (F0): its rows have not been received", [](Lists& ops) { drop(ops[1], "R0<0"); });
  says("stage 0, op 4 (B0): its gradient has not been received", [](Lists& ops) { drop(ops[0], "RG0<1"); });
  says("(S0>1): is sent before it is computed", [](Lists& ops) { exchange(ops[0], "F0", "S0>1"); });
  says("(SG0>0): is sent before it is computed", [](Lists& ops) { exchange(ops[1], "B0", "SG0>0"); });
  says("(R1<0): stage 0 sends pack 0 slice 0 for run 0 first: messages must be received in the order",
       [](Lists& ops) { exchange(ops[1], "R0<0", "R1<0"); });
  says("(W0): weight gradient before its input gradient", [](Lists& ops) { exchange(ops[1], "B0", "W0"); });
  says("(B0): goes backward before its forward", [](Lists& ops) { exchange(ops[1], "F0", "B0"); });
  says("(F1): runs forward a second time", [](Lists& ops) { ops[0][find(ops[0], "F2")].pack = 1; });
  says("(B0): goes backward a second time",
       [](Lists& ops) { ops[1][find(ops[1], "W0")].kind = OpKind::kBackwardInput; });
  says("(W0): weight gradient a second time",
       [](Lists& ops) { ops[1][find(ops[1], "SG0>0")] = {OpKind::kBackwardWeight}; });
  says("(S0>1): is sent a second time", [](Lists& ops) { ops[0][find(ops[0], "F1")] = {OpKind::kSend, 0, 0, 0, 1}; });
  says("(reduce@0): reduces before the last weight gradient", [](Lists& ops) { drop(ops[0], "W1"); });
  says("(reduce@0): reduces gradients that no op completes",
       [](Lists& ops) { ops[0][find(ops[0], "B2")].completes = false; });
  says("(B2): comes after the op that completes its run's gradients",
       [](Lists& ops) { ops[0][find(ops[0], "B1")].completes = true; });
  says("(W2): cannot complete its run's gradients", [](Lists& ops) { ops[0][find(ops[0], "W2")].completes = true; });
  says("(step): steps before run 0 is reduced", [](Lists& ops) { drop(ops[0], "reduce@0"); });
  says("stage 0, end of list: no optimizer step", [](Lists& ops) { drop(ops[0], "step"); });
  says("comes after the optimizer step", [](Lists& ops) { ops[0].push_back({OpKind::kForward}); });
  says("gradients are reduced once", [](Lists& ops) { ops[0].back() = {OpKind::kReduceGradients}; });
  says("deadlock: stage 0 waits at op 2 (RG0<1), stage 1 waits at op 0 (R0<0)",
       [](Lists& ops) { drop(ops[0], "S0>1"), drop(ops[0], "S1>1"); });
  says("goes to stage 0, stage 1 needs it", [](Lists& ops) { ops[0][find(ops[0], "S0>1")].peer = 0; });
  says("waits for stage 1, stage 0 sends it", [](Lists& ops) { ops[1][find(ops[1], "R0<0")].peer = 1; });
  says("no other stage is waiting for it", [](Lists& ops) { ops[1][find(ops[1], "SG0>0")].kind = OpKind::kSend; });
  says("no other stage sends it", [](Lists& ops) { ops[0][find(ops[0], "RG0<1")].kind = OpKind::kReceive; });
  says("there is no pack 9", [](Lists& ops) { ops[0][0].pack = 9; });
  says("pack 0 has no slice 1", [](Lists& ops) { ops[0][0].slice = 1; });
  says("there is no run 1", [](Lists& ops) { ops[0][0].run = 1; });
  says("there are 1 op lists for 2 stages", [](Lists& ops) { ops.pop_back(); });
  EXPECT_NE(verdict(
                plain, [](Lists&) {}, 1)
                .find("in flight, the window is 1"),
            std::string::npos);
}

TEST(ScheduleValidator, RefusesUnitsThatAreLeftOut) {
  const PipelineShape shape = whole_packs(Schedule::k1F1B, 2, 2);
  PipelineShape larger = whole_packs(Schedule::k1F1B, 2, 3);
  const std::string said = validate_ops(larger, pipeline_ops(shape));
  EXPECT_NE(said.find("reduces before the last weight gradient"), std::string::npos) << said;
  const std::string forward = validate_ops(larger, forward_ops(shape));
  EXPECT_EQ(forward, "stage 0, end of list: pack 2 slice 0 never goes forward in run 0");
  Lists unread = forward_ops(shape);
  unread[0].push_back({OpKind::kForward, 2}), unread[0].push_back({OpKind::kSend, 2, 0, 0, 1});
  EXPECT_EQ(validate_ops(larger, unread), "stage 1, end of list: pack 2 slice 0 never goes forward in run 0");
}

TEST(ScheduleValidator, KeepsTheOrderOfSlices) {
  const PipelineShape sliced{Schedule::k1F1B, 1, 1, {3}, 1};
  const auto said = [&](const char* a, const char* b) {
    return verdict(sliced, [&](Lists& ops) { exchange(ops[0], a, b); });
  };
  EXPECT_NE(said("F0", "F0.1").find("the slice before it has not gone forward"), std::string::npos);
  EXPECT_NE(said("B0.2", "B0.1").find("the slice after it has not gone backward"), std::string::npos);
}

TEST(ScheduleValidator, ChecksTheWrapAroundOfInterleavingInBothDirections) {
  for (const int p : {2, 3, 4}) {
    const PipelineShape shape = whole_packs(Schedule::kInterleaved, p, 2 * p, 2);
    const std::string first = text("R0@1<", p - 1), second = text("R1@1<", p - 1);
    EXPECT_NE(verdict(shape, [&](Lists& ops) { exchange(ops[0], first, second); }).find("in the order in which"),
              std::string::npos);
    const auto last = index(p - 1);
    EXPECT_NE(verdict(shape, [&](Lists& ops) { exchange(ops[last], "RG0<0", "RG1<0"); }).find("in the order in which"),
              std::string::npos);
  }
}

/// Any two neighbouring ops exchanged: either the lists still work or the validator says why not; it never hangs.
TEST(ScheduleValidator, EndsOnEveryMutation) {
  int refused = 0;
  for (uint64_t seed = 0; seed < 2000; ++seed) {
    Rng rng(seed, 9);
    const auto schedule = static_cast<Schedule>(rng.below(3));
    const PipelineShape shape = whole_packs(schedule, 3, 6, schedule == Schedule::kInterleaved ? 2 : 1);
    Lists ops = pipeline_ops(shape);
    std::vector<Op>& list = ops[rng.below(3)];
    const size_t at = rng.below(list.size() - 1);
    if (rng.below(2)) {
      std::swap(list[at], list[at + 1]);
      refused += !validate_ops(shape, ops).empty();
    } else {
      const std::string dropped = to_string(list[at]);
      list.erase(list.begin() + static_cast<std::ptrdiff_t>(at));
      EXPECT_NE(validate_ops(shape, ops), "") << "seed " << seed << " without " << dropped;
    }
  }
  EXPECT_GT(refused, 300);
}

}  // namespace
}  // namespace fpdist::plan
