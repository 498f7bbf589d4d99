#include "src/plan/pack/pipeline_plan.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <filesystem>
#include <functional>
#include <iostream>
#include <limits>
#include <map>
#include <numeric>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/core/rng.hpp"
#include "src/core/index.hpp"
#include "src/plan/figures/baselines.hpp"
#include "src/plan/figures/plan_figures.hpp"
#include "src/plan/pack/slicer.hpp"
#include "src/plan/schedule/program.hpp"
#include "tests/support/plan/planner_case.hpp"
#include "tests/support/random/random_lengths.hpp"

namespace fpdist::plan {
namespace {

using test::PlannerCase, test::random_lengths;

PlannerCase random_case(uint64_t seed) {
  Rng rng(seed, 8);
  PlannerCase one;
  one.tree = random_lengths(rng, static_cast<int>(1 + rng.below(12)), 200);
  one.costs.overhead_rows = static_cast<int64_t>(rng.below(100));
  one.costs.per_link = static_cast<int64_t>(rng.below(2) * 1000);
  PlannerOptions& options = one.options;
  options.replicas = static_cast<int>(1 + rng.below(5));
  options.parallel.pp = static_cast<int>(1 + rng.below(4));
  options.parallel.schedule = static_cast<Schedule>(rng.below(3));
  options.parallel.virtual_stages =
      options.parallel.schedule == Schedule::kInterleaved ? static_cast<int>(1 + rng.below(3)) : 1;
  options.atomic = static_cast<Atomic>(rng.below(3));
  options.may_slice = options.parallel.schedule == Schedule::kInterleaved || rng.below(4) > 0;
  options.max_tokens = 1 << (options.atomic == Atomic::kSamples ? 10 : 13);
  return one;
}

/// Plans, or nothing where the random case asks for what cannot be (interleaving with too few rows).
bool plans(const PlannerCase& one, PipelinePlan& plan) {
  try {
    plan = plan_pipeline(one.tree, one.costs, one.options);
    return true;
  } catch (const ConfigError&) {
    EXPECT_EQ(one.options.parallel.schedule, Schedule::kInterleaved);
    return false;
  }
}

TEST(PipelinePlan, HoldsEverySampleOnceWithinItsLimitsAndAboveItsBounds) {
  int planned = 0;
  for (uint64_t seed = 0; seed < 250; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    const PlannerCase one = random_case(seed);
    PipelinePlan plan;
    if (!plans(one, plan)) continue;
    ++planned;
    Slicer slicer(one.tree, one.costs);
    std::multiset<int32_t> seen;
    std::map<int32_t, std::set<const PlannedPack*>> packs_of_line;
    int64_t step = 0;
    ASSERT_EQ(plan.replica.size(), index(one.options.replicas));
    for (const PlannedReplica& replica : plan.replica) {
      const PipelineShape shape = shape_of(one.options, replica);
      const auto ops = pipeline_ops(shape);
      ASSERT_EQ(validate_ops(shape, ops), "");
      const Simulation run = simulate(shape, ops, unit_costs(one.costs, replica), plan.layers);
      EXPECT_EQ(run.makespan, replica.makespan);
      EXPECT_LE(run.peak_rows, most_rows_in_flight(one.options));
      step = std::max(step, run.makespan);
      int longest = 1;
      for (const int slices : shape.slices) longest = std::max(longest, slices);
      EXPECT_TRUE(replica.window == 1 || replica.window == longest) << replica.window << " of " << longest;
      for (const PlannedPack& pack : replica.pack) {
        Amount work;
        for (const Amount& slice : pack.slice) {
          EXPECT_TRUE(slice.rows > 0 || pack.slice.size() == 1) << "a slice of no rows";
          work += slice;
        }
        EXPECT_EQ(work, slicer.whole(pack.sample));
        EXPECT_LE(work.rows, one.options.max_tokens);
        EXPECT_TRUE(one.options.may_slice || pack.slice.size() == 1);
        EXPECT_TRUE(std::is_sorted(pack.sample.begin(), pack.sample.end()));
        for (const int32_t s : pack.sample) {
          seen.insert(s);
          packs_of_line[one.tree.sample[index(s)].line].insert(&pack);
        }
      }
    }
    EXPECT_EQ(step, plan.step);
    std::vector<int32_t> all(one.tree.sample.size());
    std::iota(all.begin(), all.end(), 0);
    EXPECT_EQ(seen, std::multiset<int32_t>(all.begin(), all.end()));
    std::map<int32_t, int> size_of_line;
    for (const LengthSample& sample : one.tree.sample) ++size_of_line[sample.line];
    for (const auto& [line, packs] : packs_of_line) {
      const bool stays =
          one.options.atomic == Atomic::kLines || (one.options.atomic == Atomic::kPairs && size_of_line[line] == 2);
      EXPECT_TRUE(!stays || packs.size() == 1) << "line " << line << " was torn";
    }
    const PlanFigures figures = figures_of(one.tree, one.costs, one.options, plan);
    EXPECT_GE(figures.gap, 0);
    EXPECT_GE(figures.step_over_ideal, 1);
    EXPECT_GE(figures.bubble, 0);
    EXPECT_GE(figures.idle, figures.bubble);
    EXPECT_GE(figures.replica_imbalance, 1);
  }
  EXPECT_GT(planned, 200);
}

TEST(PipelinePlan, IsTheSameEveryTime) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const PlannerCase one = random_case(seed);
    PipelinePlan a, b;
    if (!plans(one, a)) continue;
    plans(one, b);
    EXPECT_EQ(a.layers, b.layers);
    EXPECT_EQ(a.effort, b.effort);
    for (size_t d = 0; d < a.replica.size(); ++d) {
      ASSERT_EQ(a.replica[d].pack.size(), b.replica[d].pack.size());
      for (size_t i = 0; i < a.replica[d].pack.size(); ++i) {
        EXPECT_EQ(a.replica[d].pack[i].sample, b.replica[d].pack[i].sample);
        EXPECT_EQ(a.replica[d].pack[i].slice, b.replica[d].pack[i].slice);
      }
    }
  }
}

/// The smallest reference file, with the limits of step / ideal that an independent prototype set.
TEST(PipelinePlan, SmallIsPackedAsWellAsPublished) {
  const std::string path = FPDIST_SOURCE_DIR "/../shared/data/lengths/small.jsonl";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "SKIPPED: no " << path;
  const LengthTree tree = read_lengths(path);
  for (const auto& [schedule, v, limit] :
       {std::tuple{Schedule::k1F1B, 1, 1.50}, std::tuple{Schedule::kInterleaved, 2, 1.39},
        std::tuple{Schedule::kZeroBubble, 1, 1.28}}) {
    PlannerOptions options;
    options.replicas = 2;
    options.parallel.pp = 4;
    options.parallel.schedule = schedule;
    options.parallel.virtual_stages = v;
    const PipelinePlan plan = plan_pipeline(tree, {}, options);
    const PlanFigures figures = figures_of(tree, {}, options, plan);
    EXPECT_LE(figures.step_over_ideal, limit) << name_of(schedule);
    EXPECT_LE(figures.replica_imbalance, 1.01) << name_of(schedule);
    EXPECT_EQ(figures.ideal, 25117916796);
    const BaselineResult others = best_baseline(Baseline::kGroupFirstFit, tree, {}, options, plan.layers);
    EXPECT_GT(others.step, plan.step);
    std::cout << name_of(schedule) << ": step / ideal " << figures.step_over_ideal << ", group first fit "
              << static_cast<double>(others.step) / static_cast<double>(figures.ideal) << '\n';
  }
}

TEST(PipelinePlan, UnitsStayFewWhereOverheadIsNothing) {
  std::string text;
  Rng rng(2, 1);
  for (int line = 0; line < 24; ++line)
    text += fpdist::text("{\"prefix\": ", 500 + rng.below(9000), ", \"completions\": [", 100 + rng.below(9000), ", ",
                         100 + rng.below(9000), "]}\n");
  const LengthTree tree = parse_lengths(text, "long");
  StageCosts costs;
  costs.overhead_rows = 0;
  for (const Schedule schedule : {Schedule::k1F1B, Schedule::kInterleaved, Schedule::kZeroBubble})
    for (const int pp : {2, 8, 16}) {
      PlannerOptions options;
      options.parallel.pp = pp;
      options.parallel.schedule = schedule;
      options.parallel.virtual_stages = schedule == Schedule::kInterleaved ? 2 : 1;
      options.max_tokens = 32768;
      const PipelinePlan plan = plan_pipeline(tree, costs, options);
      size_t units = 0;
      for (const PlannedPack& pack : plan.replica[0].pack) units += pack.slice.size();
      EXPECT_LE(units, 256u) << name_of(schedule) << " pp " << pp;
      EXPECT_GT(units, index(pp)) << name_of(schedule);
    }
}

TEST(PipelinePlan, TenThousandSamplesArePlannedInTime) {
  std::string text;
  Rng rng(1, 1);
  for (int line = 0; line < 2500; ++line) {
    text += "{\"prefix\": " + std::to_string(20 + rng.below(200)) + ", \"completions\": [";
    for (int i = 0; i < 4; ++i) text += fpdist::text(i ? "," : "", 20 + rng.below(150));
    text += "]}\n";
  }
  const LengthTree tree = parse_lengths(text, "many");
  PlannerOptions options;
  options.replicas = 8;
  options.parallel.pp = 4;
  const std::clock_t begin = std::clock();
  const PipelinePlan plan = plan_pipeline(tree, {}, options);
  const double ms = 1e3 * static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  std::cout << "10,000 samples: " << ms << " ms, step / ideal " << figures_of(tree, {}, options, plan).step_over_ideal
            << '\n';
  EXPECT_LT(ms, 1500);  // ten times the figure of an idle machine: test machines are shared, and may carry sanitizers
}

TEST(Baselines, TearWhatDoesNotFitAndFillUpWithEmptyPacks) {
  const LengthTree tree =
      parse_lengths("{\"prefix\": 50, \"completions\": [30, 40, 20]}\n{\"prefix\": 5, \"completions\": [8]}", "f");
  PlannerOptions options;
  options.parallel.pp = 2;
  const std::vector<int64_t> layers{16, 16};
  for (const Baseline kind : {Baseline::kGroupFirstFit, Baseline::kReplicaFirstFit, Baseline::kUnshared}) {
    EXPECT_GT(price_baseline(kind, tree, {}, options, layers, 200).step, 0);
    EXPECT_GT(price_baseline(kind, tree, {}, options, layers, 90).step, 0);
    EXPECT_EQ(price_baseline(kind, tree, {}, options, layers, 89).step, 0);
  }
  // Two packs of 135 and 13 rows, or nothing shared: 80 + 90 + 70 + 13.
  options.parallel.pp = 1;
  StageCosts costs;
  costs.overhead_rows = 0, costs.forward_pair = 0, costs.backward_pair = 0, costs.per_edge = 0;
  const int64_t row = 32 * 3 * costs.per_row;
  EXPECT_EQ(price_baseline(Baseline::kGroupFirstFit, tree, costs, options, {32}, 200).step, row * (140 + 13));
  EXPECT_EQ(price_baseline(Baseline::kUnshared, tree, costs, options, {32}, 200).step, row * (80 + 90 + 70 + 13));
}

}  // namespace
}  // namespace fpdist::plan
