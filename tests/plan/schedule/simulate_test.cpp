#include "src/plan/schedule/simulate.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <tuple>
#include <vector>

#include "fpdist/core/rng.hpp"
#include "src/core/index.hpp"
#include "src/plan/schedule/program.hpp"
#include "tests/support/plan/pipeline_shapes.hpp"

namespace fpdist::plan {
namespace {

using test::random_shape, test::whole_packs;

std::vector<UnitCost> equal_units(int m, int64_t f, int64_t b, int64_t w, int64_t rows = 1) {
  return std::vector<UnitCost>(index(m), UnitCost{{f, b, w}, {0, 0, 0}, rows, 0});
}

int64_t makespan(const PipelineShape& shape, const std::vector<UnitCost>& units, const std::vector<int64_t>& layers) {
  return simulate(shape, pipeline_ops(shape), units, layers).makespan;
}

TEST(Simulator, EqualPacksGiveTheClosedFormsExactly) {
  for (int p = 1; p <= 8; ++p)
    for (int k = 1; k <= 4; ++k)
      for (const int64_t t : {1, 7}) {
        const int m = k * p;
        const std::vector<int64_t> one(index(p), 1);
        const int64_t ideal = 3 * t * m;
        EXPECT_EQ(makespan(whole_packs(Schedule::k1F1B, p, m), equal_units(m, t, t, t), one), ideal + 3 * t * (p - 1));
        EXPECT_EQ(makespan(whole_packs(Schedule::kZeroBubble, p, m), equal_units(m, t, t, t), one),
                  ideal + t * (p - 1));
        for (int v = 1; v <= 4; ++v)
          EXPECT_EQ(makespan(whole_packs(Schedule::kInterleaved, p, m, v), equal_units(m, t, t, t),
                             std::vector<int64_t>(index(p * v), 1)),
                    v * ideal + 3 * t * (p - 1))
              << p << ' ' << m << ' ' << v;
      }
}

/// As long as a weight gradient takes no longer than a forward.
TEST(Simulator, ZeroBubbleHidesWeightGradients) {
  for (int p = 2; p <= 6; ++p)
    for (const auto& [f, b, w] : {std::array<int64_t, 3>{4, 6, 3}, {5, 5, 5}, {2, 9, 1}, {4, 4, 3}}) {
      const int m = 3 * p;
      EXPECT_EQ(makespan(whole_packs(Schedule::kZeroBubble, p, m), equal_units(m, f, b, w),
                         std::vector<int64_t>(index(p), 1)),
                m * (f + b + w) + (p - 1) * (f + b - w))
          << p << ": " << f << ' ' << b << ' ' << w;
    }
}

std::vector<UnitCost> random_units(Rng& rng, const PipelineShape& shape, bool with_links) {
  std::vector<UnitCost> units;
  for (const int slices : shape.slices)
    for (int s = 0; s < slices; ++s) {
      UnitCost unit;
      for (int64_t& one : unit.layer) one = static_cast<int64_t>(1 + rng.below(100));
      for (int64_t& one : unit.head) one = static_cast<int64_t>(rng.below(100));
      unit.rows = static_cast<int64_t>(1 + rng.below(50));
      unit.link = with_links ? static_cast<int64_t>(rng.below(20)) : 0;
      units.push_back(unit);
    }
  return units;
}

std::vector<int64_t> random_layers(Rng& rng, const PipelineShape& shape) {
  std::vector<int64_t> layers(index(shape.stages * shape.runs));
  for (int64_t& one : layers) one = static_cast<int64_t>(1 + rng.below(4));
  return layers;
}

/// The obvious way: messages and operations one by one, each as soon as what it waits for is there.
int64_t op_by_op(const PipelineShape& shape, const std::vector<UnitCost>& units, const std::vector<int64_t>& layers) {
  const auto ops = pipeline_ops(shape);
  std::vector<int> first;
  int count = 0;
  for (const int slices : shape.slices) first.push_back(count), count += slices;
  std::vector<int64_t> clock(ops.size());
  std::vector<size_t> next(ops.size());
  std::map<std::tuple<bool, int, int>, int64_t> sent;  // (gradient?, unit, receiving run)
  for (bool moved = true; moved;) {
    moved = false;
    for (int s = 0; s < shape.stages; ++s)
      for (; next[index(s)] < ops[index(s)].size(); ++next[index(s)], moved = true) {
        const Op& op = ops[index(s)][next[index(s)]];
        const int run = op.run * shape.stages + s;
        const bool is_last = run + 1 == shape.stages * shape.runs;
        if (op.kind == OpKind::kReduceGradients || op.kind == OpKind::kOptimizerStep) continue;
        const int unit = first[index(op.pack)] + op.slice;
        const UnitCost& cost = units[index(unit)];
        const bool gradient = op.kind == OpKind::kReceiveGradient || op.kind == OpKind::kSendGradient;
        if (op.kind == OpKind::kSend || op.kind == OpKind::kSendGradient) {
          sent[{gradient, unit, gradient ? run - 1 : run + 1}] = clock[index(s)];
        } else if (op.kind == OpKind::kReceive || op.kind == OpKind::kReceiveGradient) {
          const auto message = sent.find({gradient, unit, run});
          if (message == sent.end()) break;
          clock[index(s)] = std::max(clock[index(s)], message->second) + cost.link;
        } else {
          const auto pass = static_cast<size_t>(op.kind);
          clock[index(s)] += layers[index(run)] * cost.layer[pass] + (is_last ? cost.head[pass] : 0);
        }
      }
  }
  return *std::max_element(clock.begin(), clock.end());
}

TEST(Simulator, OnePassOverTheProgramIsTheListsRunOpByOp) {
  static_assert(int(OpKind::kForward) == kForwardPass && int(OpKind::kBackwardInput) == kInputPass &&
                int(OpKind::kBackwardWeight) == kWeightPass);
  for (uint64_t seed = 0; seed < 500; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    Rng rng(seed, 3);
    const PipelineShape shape = random_shape(rng, {.stages = 5, .runs = 3, .packs = 6, .slices = 5});
    const std::vector<UnitCost> units = random_units(rng, shape, rng.below(2));
    const std::vector<int64_t> layers = random_layers(rng, shape);
    const Simulation run = simulate(shape, pipeline_ops(shape), units, layers, true);
    ASSERT_EQ(run.makespan, op_by_op(shape, units, layers));
    Program program(shape);
    ASSERT_EQ(run.makespan, program.makespan(units, layers));
    ASSERT_EQ(run.makespan, program.makespan(units, layers)) << "a second pass starts afresh";
    ASSERT_EQ(run.peak_rows, program.peak_rows(units));
    std::vector<int64_t> busy(index(shape.stages));
    double last = 0;
    for (const TimelineEvent& event : run.events) {
      busy[index(event.rank)] += static_cast<int64_t>(event.end - event.begin);
      last = std::max(last, event.end);
    }
    EXPECT_EQ(busy, run.busy);
    EXPECT_EQ(last, static_cast<double>(run.makespan));
  }
}

TEST(Simulator, RowsInFlightFollowTheSchedule) {
  const auto peak = [](const PipelineShape& shape) {
    const int units = static_cast<int>(shape.slices.size());
    return simulate(shape, pipeline_ops(shape), equal_units(units, 1, 1, 1, 100),
                    std::vector<int64_t>(index(shape.stages * shape.runs), 1))
        .peak_rows;
  };
  EXPECT_EQ(peak(whole_packs(Schedule::k1F1B, 4, 16)), 400);
  EXPECT_EQ(peak(whole_packs(Schedule::kZeroBubble, 4, 16)), 400);
  EXPECT_EQ(peak(whole_packs(Schedule::kInterleaved, 4, 16, 2)), 100 * (4 + 6 + 1) / 2);
  EXPECT_EQ(peak(whole_packs(Schedule::k1F1B, 4, 2)), 200);
}

TEST(Simulator, NoPacksTakeNoTime) {
  const PipelineShape shape = whole_packs(Schedule::kInterleaved, 2, 0, 2);
  const Simulation run = simulate(shape, pipeline_ops(shape), {}, std::vector<int64_t>(4, 1));
  EXPECT_EQ(run.makespan, 0);
  EXPECT_EQ(run.peak_rows, 0);
}

TEST(StageCosts, AreTheFormulas) {
  StageCosts costs;
  costs.layers = 32, costs.per_row = 10, costs.forward_pair = 2, costs.backward_pair = 5, costs.per_edge = 1000;
  costs.overhead_rows = 3, costs.per_link = 7, costs.per_link_row = 4;
  const UnitCost unit = unit_cost(costs, {100, 5000, 9});
  EXPECT_EQ(unit.layer, (std::array<int64_t, 3>{10 * 103 + 10000, 10 * 103 + 25000, 10 * 103}));
  EXPECT_EQ(unit.head, (std::array<int64_t, 3>{9000, 9000, 9000}));
  EXPECT_EQ(unit.link, 7 + 400);
  EXPECT_EQ(unit.rows, 100);
  EXPECT_EQ(total_work(costs, {100, 5000, 9}), 32 * (3 * 10 * 100 + 7 * 5000) + 3 * 9000);
  costs.recompute = true;
  EXPECT_EQ(unit_cost(costs, {100, 5000, 9}).layer[kInputPass], 10 * 103 + 25000 + 1000 + 10000);
  EXPECT_EQ(total_work(costs, {100, 5000, 9}), 32 * (4 * 10 * 100 + 9 * 5000) + 3 * 9000);
}

}  // namespace
}  // namespace fpdist::plan
