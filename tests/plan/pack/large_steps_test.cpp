#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/core/rng.hpp"
#include "src/core/index.hpp"
#include "src/plan/figures/plan_figures.hpp"
#include "src/plan/pack/pipeline_plan.hpp"

namespace fpdist::plan {
namespace {

/// Groups of four as bench/plan_scale.py makes them.
LengthTree groups_of_four(int64_t samples) {
  std::string lines;
  Rng rng(5, 1);
  const auto rows = [&](uint64_t least, uint64_t most) { return least + rng.below(most - least + 1); };
  for (int64_t line = 0; line < samples / 4; ++line)
    lines += text("{\"prefix\": ", rows(100, 2000), ", \"completions\": [", rows(50, 1500), ", ", rows(50, 1500), ", ",
                  rows(50, 1500), ", ", rows(50, 1500), "]}\n");
  return parse_lengths(lines, "groups");
}

PlannerOptions on(int replicas, int stages, Schedule schedule) {
  PlannerOptions options;
  options.replicas = replicas, options.max_tokens = 16384;
  options.parallel.pp = stages, options.parallel.schedule = schedule;
  options.parallel.virtual_stages = schedule == Schedule::kInterleaved ? 2 : 1;
  return options;
}

/// What grew faster than the work: bins times nodes, replicas times replicas, a scan of the tree a replica.
TEST(LargeSteps, KeepToTheirBudgetOnAnyMesh) {
  const LengthTree tree = groups_of_four(8000);
  for (const int replicas : {1, 32, 512, 2000}) {
    SCOPED_TRACE(::testing::Message() << replicas << " replicas");
    const PlannerOptions options = on(replicas, 4, Schedule::k1F1B);
    const PipelinePlan plan = plan_pipeline(tree, {}, options);
    EXPECT_LE(plan.effort, plan.budget + plan.budget / 4);
    EXPECT_EQ(hash_of(plan), hash_of(plan_pipeline(tree, {}, options)));
    std::vector<int32_t> seen;
    for (const PlannedReplica& replica : plan.replica)
      for (const PlannedPack& pack : replica.pack) seen.insert(seen.end(), pack.sample.begin(), pack.sample.end());
    std::sort(seen.begin(), seen.end());
    ASSERT_EQ(seen.size(), tree.sample.size());
    for (size_t s = 0; s < seen.size(); ++s) ASSERT_EQ(seen[s], static_cast<int32_t>(s));
  }
}

TEST(LargeSteps, ABudgetIsDividedByThrift) {
  const LengthTree tree = groups_of_four(4000);
  PlannerOptions options = on(8, 4, Schedule::k1F1B);
  const PipelinePlan plan = plan_pipeline(tree, {}, options);
  options.thrift = 8;
  const PipelinePlan quick = plan_pipeline(tree, {}, options);
  EXPECT_EQ(quick.budget, plan.budget / 8);
  EXPECT_LT(quick.effort, plan.effort);
  EXPECT_LT(quick.step, plan.step + plan.step / 20);
}

TEST(LargeSteps, TheHashIsOfEverySliceAndSample) {
  const LengthTree tree = groups_of_four(64);
  PipelinePlan plan = plan_pipeline(tree, {}, on(2, 2, Schedule::k1F1B));
  const uint64_t hash = hash_of(plan);
  PipelinePlan other = plan;
  std::swap(other.replica[0].pack.front(), other.replica[0].pack.back());
  EXPECT_NE(hash_of(other), hash);
  other = plan;
  other.replica[1].pack[0].slice[0].rows += 1;
  EXPECT_NE(hash_of(other), hash);
  other = plan;
  other.replica[0].window += 1;
  EXPECT_NE(hash_of(other), hash);
}

/// Where the cap binds, first fits leave a number of packs that interleaving cannot have.
TEST(LargeSteps, InterleavingFindsAMultipleWhereTheCapBinds) {
  for (const int64_t samples : {3000, 3400, 3800}) {
    SCOPED_TRACE(::testing::Message() << samples << " samples");
    const LengthTree tree = groups_of_four(samples);
    const PlannerOptions options = on(1, 4, Schedule::kInterleaved);
    const PipelinePlan plan = plan_pipeline(tree, {}, options);
    const PlanFigures figures = figures_of(tree, {}, options, plan);
    EXPECT_EQ(figures.units % 4, 0);
    EXPECT_LT(figures.step_over_ideal, 1.12);
    EXPECT_GT(figures.sharing_kept, figures.sharing_ratio * 0.97);
  }
}

}  // namespace
}  // namespace fpdist::plan
