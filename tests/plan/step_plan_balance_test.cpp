// How a step is spread over replicas, and how fast.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <iostream>
#include <string>
#include <vector>

#include "fpdist/core/rng.hpp"
#include "src/core/clock.hpp"
#include "tests/support/plan/step_groups.hpp"

namespace fpdist::plan {
namespace {

using test::group_of, test::kCosts, test::replicas;

const StageCosts kRowsOnly{
    .layers = 1, .per_row = 1, .forward_pair = 0, .backward_pair = 0, .per_edge = 0, .overhead_rows = 0};

TEST(StepPlan, ASharedPreambleIsCountedOncePerPack) {
  std::vector<data::Group> groups;
  for (int64_t id = 0; id < 16; ++id) {
    groups.push_back(group_of(id, {10, 10}, 5));
    for (data::Sample& sample : groups.back().sample) {
      sample.token.insert(sample.token.begin(), 300, 7);
      sample.target.insert(sample.target.begin(), 300, data::kIgnore);
    }
  }
  const StepPlan plan = make_step_plan(groups, Atomic::kLines, replicas(2), kCosts, {});
  for (const auto& packs : plan.replica) {
    ASSERT_EQ(packs.size(), 1u);
    EXPECT_EQ(packs[0].rows, 300 + 8 * 25);
  }
  EXPECT_DOUBLE_EQ(plan.totals.sharing_ratio(), 32.0 * 315 / 1000);
}

TEST(StepPlan, LargeRolloutGroupsAreTornWhenReplicasWouldWait) {
  const std::vector<data::Group> groups{group_of(0, {400, 400, 400, 400}, 10)};
  const StepPlan plan = make_step_plan(groups, Atomic::kSamples, replicas(4), kCosts, {});
  EXPECT_TRUE(std::none_of(plan.replica.begin(), plan.replica.end(), [](const auto& packs) { return packs.empty(); }));
}

TEST(StepPlan, ReplicasEndUpWithinAFewPercent) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(seed);
    Rng rng(seed, 3);
    std::vector<data::Group> groups;
    for (int64_t id = 0; id < 64; ++id)
      groups.push_back(group_of(id,
                                {static_cast<int64_t>(50 + rng.below(300)), static_cast<int64_t>(50 + rng.below(300))},
                                static_cast<int64_t>(50 + rng.below(200))));
    PackOptions options;
    options.max_tokens = 2048;
    const StepPlan plan = make_step_plan(groups, Atomic::kLines, replicas(8), kCosts, options);
    int64_t most = 0, sum = 0;
    for (const auto& packs : plan.replica) {
      int64_t load = 0;
      for (const PackPlan& pack : packs) load += pack.cost;
      most = std::max(most, load), sum += load;
    }
    EXPECT_LE(static_cast<double>(most) * 8 / static_cast<double>(sum), 1.03);
  }
}

TEST(StepPlan, ASwapMendsWhatLongestFirstGetsWrong) {
  std::vector<data::Group> groups;  // longest first leaves 3+2+2 against 3+2; 3+3 against 2+2+2 is even
  for (const int64_t length : {300, 300, 200, 200, 200})
    groups.push_back(group_of(static_cast<int64_t>(groups.size()), {length}, 0));
  const StepPlan plan = make_step_plan(groups, Atomic::kSamples, replicas(2), kRowsOnly, {});
  for (const auto& packs : plan.replica) EXPECT_EQ(packs.at(0).cost, 600);
}

TEST(StepPlan, TenThousandSamplesArePlannedInUnderASecond) {
  Rng rng(9);
  std::vector<data::Group> groups;
  for (int64_t id = 0; id < 1250; ++id) {
    std::vector<int64_t> completions(8);
    for (int64_t& length : completions) length = static_cast<int64_t>(20 + rng.below(600));
    groups.push_back(group_of(id, completions, static_cast<int64_t>(50 + rng.below(500))));
  }
  for (const bool share : {true, false}) {
    PackOptions options;
    options.share_prefix = share;
    const auto start = Clock::now();
    const StepPlan plan = make_step_plan(groups, Atomic::kSamples, replicas(8), kCosts, options);
    const double seconds = seconds_since(start);
    RecordProperty(share ? "seconds_shared" : "seconds_unshared", std::to_string(seconds));
    std::cout << "planned 10,000 samples, share_prefix " << share << ": " << seconds << " s, sharing ratio "
              << plan.totals.sharing_ratio() << "\n";
#ifdef NDEBUG
    EXPECT_LT(seconds, 1.0);
#endif
  }
}

}  // namespace
}  // namespace fpdist::plan
