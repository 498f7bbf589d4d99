// Step plans on pipelines: order of operations, interleaving, slices.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "fpdist/core/rng.hpp"
#include "src/core/index.hpp"
#include "tests/support/plan/step_groups.hpp"
#include "tests/support/random/odd_groups.hpp"

namespace fpdist::plan {
namespace {

using test::group_of, test::kCosts, test::replicas;

TEST(StepPlan, EveryPackGoesThroughThePipelineWhole) {
  const std::vector<data::Group> groups{group_of(0, {60}, 10), group_of(1, {60}, 10)};
  PackOptions options;
  options.max_tokens = 100;
  const StepPlan plan = make_step_plan(groups, Atomic::kSamples, replicas(1), kCosts, options);
  std::vector<Op> wanted{{OpKind::kForward, 0},      {OpKind::kBackwardInput, 0}, {OpKind::kBackwardWeight, 0},
                         {OpKind::kForward, 1},      {OpKind::kBackwardInput, 1}, {OpKind::kBackwardWeight, 1},
                         {OpKind::kReduceGradients}, {OpKind::kOptimizerStep}};
  wanted[4].completes = true;
  EXPECT_EQ(pipeline_ops(plan.pipeline(0)).at(0), wanted);
  const StepPlan idle = make_step_plan({}, Atomic::kSamples, replicas(3), kCosts, {});
  EXPECT_EQ(pipeline_ops(idle.pipeline(2)).at(0),
            (std::vector<Op>{{OpKind::kReduceGradients}, {OpKind::kOptimizerStep}}));
  EXPECT_EQ(idle.totals.tokens_computed, 0);
}

TEST(StepPlan, InterleavingGetsAMultipleOfTheStages) {
  ParallelOptions options = replicas(2);
  options.pp = 4, options.virtual_stages = 2, options.schedule = Schedule::kInterleaved;
  PackOptions pack;
  pack.max_tokens = 100;
  const std::vector<data::Group> groups{group_of(0, {60}, 10), group_of(1, {60}, 10), group_of(2, {90}, 10)};
  StageCosts costs = kCosts;
  costs.layers = 8;
  const StepPlan plan = make_step_plan(groups, Atomic::kSamples, options, costs, pack);
  for (int d = 0; d < 2; ++d) {
    int units = 0;
    for (const int slices : plan.pipeline(d).slices) units += slices;
    EXPECT_EQ(units % 4, 0);
    EXPECT_EQ(validate_ops(plan.pipeline(d), pipeline_ops(plan.pipeline(d))), "");
  }
  options.schedule = Schedule::k1F1B, options.virtual_stages = 1;
  EXPECT_NE(make_step_plan(groups, Atomic::kSamples, options, costs, pack).hash, plan.hash);
}

TEST(StepPlan, PipelinePlansAreWholeAndTheirSlicesFit) {
  for (uint64_t seed = 0; seed < 250; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    Rng rng(seed, 78);
    const Atomic atomic = rng.below(2) ? Atomic::kLines : Atomic::kSamples;
    const auto groups = test::odd_groups(seed, atomic == Atomic::kLines);
    ParallelOptions parallel = replicas(static_cast<int>(1 + rng.below(3)));
    parallel.pp = static_cast<int>(2 + rng.below(3));
    parallel.schedule = static_cast<Schedule>(rng.below(3));
    parallel.virtual_stages = parallel.schedule == Schedule::kInterleaved ? 2 : 1;
    StageCosts costs = kCosts;
    costs.layers = 8, costs.overhead_rows = static_cast<int64_t>(rng.below(40));
    PackOptions options;
    options.share_prefix = rng.below(4) > 0;
    options.slices = static_cast<int>(rng.below(3));
    for (const data::Group& group : groups) {  // the longest group fits, not much more
      int64_t rows = 0;
      for (const data::Sample& sample : group.sample) rows += sample.length();
      options.max_tokens =
          std::max(seed ? rows + static_cast<int64_t>(rng.below(30)) : rows, options.max_tokens % 8192);
    }
    const StepPlan plan = make_step_plan(groups, atomic, parallel, costs, options);
    EXPECT_EQ(make_step_plan(groups, atomic, parallel, costs, options).hash, plan.hash);
    std::vector<int> placed;
    for (const data::Group& group : groups) placed.insert(placed.end(), group.sample.size(), 0);
    std::vector<size_t> first{0};
    for (const data::Group& group : groups) first.push_back(first.back() + group.sample.size());
    for (int d = 0; d < parallel.dp; ++d) {
      EXPECT_EQ(validate_ops(plan.pipeline(d), pipeline_ops(plan.pipeline(d))), "");
      for (const PackPlan& pack : plan.replica[index(d)]) {
        const prefix::TreeLayout layout = lay_out(groups, pack, options.share_prefix);
        EXPECT_EQ(pack.rows, layout.rows());
        EXPECT_LE(pack.rows, options.max_tokens);
        EXPECT_EQ(pack.slice_end.back(), pack.rows);
        EXPECT_TRUE(std::is_sorted(pack.slice_end.begin(), pack.slice_end.end()));
        for (const MemberRef& member : pack.member) ++placed[first[index(member.group)] + index(member.index)];
        for (const MemberRef& member : pack.member) {  // pairs stay together
          if (atomic != Atomic::kLines) continue;
          const auto of_group = std::count_if(pack.member.begin(), pack.member.end(),
                                              [&](const MemberRef& other) { return other.group == member.group; });
          EXPECT_EQ(index(of_group), groups[index(member.group)].sample.size());
        }
      }
    }
    EXPECT_EQ(std::count(placed.begin(), placed.end(), 1), static_cast<std::ptrdiff_t>(placed.size()));
  }
}

TEST(StepPlan, APipelineSharesWhatIsSharedByAll) {
  std::vector<data::Group> groups;  // a long preamble above 40 pairs; every other question is asked twice
  for (int32_t g = 0; g < 40; ++g) {
    data::Group group;
    group.id = g;
    for (int32_t s = 0; s < 2; ++s) {
      data::Sample sample;
      sample.token.assign(700, 7);
      for (const int32_t token : {100 + g / 2, 300 + s, 301, 302}) sample.token.push_back(token);
      sample.target = sample.token;
      group.sample.push_back(sample);
    }
    groups.push_back(group);
  }
  ParallelOptions parallel = replicas(1);
  parallel.pp = 2, parallel.schedule = Schedule::kZeroBubble;
  StageCosts costs = kCosts;
  costs.layers = 4;
  PackOptions options;
  options.max_tokens = 2048;
  EXPECT_GT(make_step_plan(groups, Atomic::kLines, parallel, costs, options).totals.sharing_ratio(), 10.0);
}

}  // namespace
}  // namespace fpdist::plan
