// Which groups are in a step, and how they are planned, depends on nothing but seed, epoch and step; the plan on the
// mesh besides.

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "fpdist/data/loader.hpp"
#include "fpdist/loss/spec.hpp"
#include "fpdist/plan/step_plan.hpp"
#include "tests/support/random/random_groups.hpp"

namespace fpdist::trainer {
namespace {

constexpr int kGroups = 23, kPerStep = 6, kSteps = 12;  // three epochs, the last step of each is short
constexpr uint64_t kSeed = 5;
const plan::StageCosts kCosts{.layers = 8};

plan::ParallelOptions mesh(int dp, int pp, int cp, plan::Schedule schedule = plan::Schedule::k1F1B, int runs = 1) {
  plan::ParallelOptions options;
  options.dp = dp, options.pp = pp, options.cp = cp;
  options.schedule = schedule, options.virtual_stages = runs;
  options.layers.assign(static_cast<size_t>(pp * runs), 8 / (pp * runs));
  return options;
}

std::vector<plan::ParallelOptions> meshes() {
  return {mesh(1, 1, 1),
          mesh(4, 1, 1),
          mesh(1, 4, 1),
          mesh(2, 2, 2),
          mesh(3, 2, 1, plan::Schedule::kZeroBubble),
          mesh(2, 2, 1, plan::Schedule::kInterleaved, 2)};
}

/// A run from step `first` on: (group ids, plan) of each step.
struct Step {
  std::vector<int64_t> group;
  plan::StepPlan plan;
};

std::vector<Step> run(const std::vector<data::Group>& data, Method method, const plan::ParallelOptions& parallel,
                      int64_t first) {
  const data::Loader loader(kGroups, kPerStep, kSeed, /*shuffle=*/true);
  std::vector<Step> steps;
  for (int64_t s = first; s < kSteps; ++s) {
    std::vector<data::Group> groups;
    Step& step = steps.emplace_back();
    step.group = loader.step(s);
    for (const int64_t id : step.group) groups.push_back(data[static_cast<size_t>(id)]);
    step.plan = plan::make_step_plan(groups, loss::spec_of(method, {}).atomic(), parallel, kCosts, {.max_tokens = 70});
  }
  return steps;
}

/// (group id, sample) of everything in a step's packs.
std::multiset<std::pair<int64_t, int32_t>> members(const Step& step) {
  std::multiset<std::pair<int64_t, int32_t>> all;
  for (const auto& packs : step.plan.replica)
    for (const plan::PackPlan& pack : packs)
      for (const plan::MemberRef& member : pack.member)
        all.emplace(step.group[static_cast<size_t>(member.group)], member.index);
  return all;
}

class Membership : public ::testing::TestWithParam<Method> {
 protected:
  std::vector<data::Group> data_ = test::random_groups(GetParam(), kGroups, kSeed);
};

TEST_P(Membership, EveryMeshTrainsTheSameSamplesInEveryStep) {
  const auto wanted = run(data_, GetParam(), meshes().front(), 0);
  for (const plan::ParallelOptions& parallel : meshes()) {
    const auto got = run(data_, GetParam(), parallel, 0);
    for (size_t s = 0; s < wanted.size(); ++s) {
      EXPECT_EQ(got[s].group, wanted[s].group);
      EXPECT_EQ(members(got[s]), members(wanted[s])) << "step " << s;
      EXPECT_EQ(got[s].plan.totals.edges, wanted[s].plan.totals.edges);
    }
  }
}

TEST_P(Membership, ARunThatBeginsInTheMiddleContinuesWithTheSamePlans) {
  for (const plan::ParallelOptions& parallel : meshes()) {
    const auto through = run(data_, GetParam(), parallel, 0);
    for (const int64_t first : {1, 5, 11}) {
      const auto resumed = run(data_, GetParam(), parallel, first);
      for (size_t s = 0; s < resumed.size(); ++s) {
        EXPECT_EQ(resumed[s].group, through[static_cast<size_t>(first) + s].group);
        EXPECT_EQ(resumed[s].plan.hash, through[static_cast<size_t>(first) + s].plan.hash) << first << " + " << s;
      }
    }
  }
}

TEST_P(Membership, AnEpochHoldsEveryGroupOnce) {
  const data::Loader loader(kGroups, kPerStep, kSeed, true);
  for (int64_t epoch = 0; epoch < 3; ++epoch) {
    std::set<int64_t> seen;
    for (int64_t s = 0; s < loader.steps_per_epoch(); ++s)
      for (const int64_t id : loader.step(epoch * loader.steps_per_epoch() + s)) EXPECT_TRUE(seen.insert(id).second);
    EXPECT_EQ(seen.size(), static_cast<size_t>(kGroups));
  }
}

INSTANTIATE_TEST_SUITE_P(Methods, Membership, ::testing::Values(Method::kSft, Method::kDpo, Method::kGrpo));

}  // namespace
}  // namespace fpdist::trainer
