// Steps that one rank of each machine plans: what the others are told is what they would have made themselves.

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/core/integers.hpp"
#include "src/plan/plan_words.hpp"
#include "src/trainer/planning/step_planner.hpp"
#include "tests/support/random/random_groups.hpp"
#include "tests/support/words/heard_log.hpp"

namespace fpdist::trainer {
namespace {

Config config_of(Method method, int dp, int pp) {
  Config config;
  config.method = method;
  config.model.preset = "tiny";
  config.data.path = {"none.jsonl"};
  config.parallel.dp = dp, config.parallel.pp = pp;
  config.pack.max_tokens = 200;
  return config;
}

/// body(job) on four ranks, two on each of two made-up machines.
template <typename Body>
void on_two_machines(const Config& config, const Body& body) {
  at::set_num_threads(1);
  test::HeardLog log;
  comm::run_threads(4, [&](comm::World& all) {
    comm::World world(all.communicator().split("world", 0, all.rank()), 2);
    Job job(world, config, log);
    body(job);
  });
}

std::vector<int64_t> words_of(const plan::StepPlan& plan) {
  IntegerWriter to;
  plan::write_plan(plan, to);
  return to.words();
}

void expect_same(const PlannedStep& told, const PlannedStep& own) {
  EXPECT_TRUE(told.is_shared);
  EXPECT_FALSE(own.is_shared);
  EXPECT_EQ(words_of(told.plan), words_of(own.plan));
  EXPECT_EQ(told.forecast.work, own.forecast.work);
  EXPECT_EQ(told.forecast.busy, own.forecast.busy);
  EXPECT_EQ(told.forecast.makespan, own.forecast.makespan);
  EXPECT_EQ(told.forecast.peak_rows, own.forecast.peak_rows);
  ASSERT_EQ(told.mismatched != nullptr, own.mismatched != nullptr);
  if (!own.mismatched) return;
  EXPECT_EQ(words_of(told.mismatched->plan), words_of(own.mismatched->plan));
}

TEST(MachinePlans, AreWhatEachRankWouldHaveMade) {
  for (const Config& config :
       {config_of(Method::kSft, 4, 1), config_of(Method::kDpo, 2, 2), config_of(Method::kKto, 2, 2)})
    on_two_machines(config, [&](const Job& job) {
      StepPlanner alone(job), together(job, {}, 1);
      const auto groups = std::make_shared<const std::vector<data::Group>>(test::random_groups(config.method, 12, 7));
      const PlannedStep own = alone.take(*groups, 1);
      expect_same(together.take(*groups, 1), own);
      together.ahead(groups, 2);
      expect_same(together.take(*groups, 2), own);
      EXPECT_EQ(own.mismatched != nullptr, config.method == Method::kKto);
    });
}

TEST(MachinePlans, OnlyTheFirstRankOfAMachinePlansAndOnlyLargeSteps) {
  on_two_machines(config_of(Method::kSft, 4, 1), [&](const Job& job) {
    const auto groups = test::random_groups(Method::kSft, 12, 7);
    int64_t samples = 0;
    for (const data::Group& group : groups) samples += static_cast<int64_t>(group.sample.size());
    MachinePlans plans(job, samples);
    EXPECT_TRUE(plans.are_shared(groups));
    EXPECT_FALSE(MachinePlans(job, samples + 1).are_shared(groups));
    EXPECT_EQ(plans.is_first(), job.world.rank() % 2 == 0);
    EXPECT_EQ(job.world.first_local(), job.world.rank() / 2 * 2);
    PlannedStep planned = plan_step({.all = groups}, job.config, job.settled.costs, 0,
                                    plans.is_first() ? PlanBy::kFirst : PlanBy::kOther);
    EXPECT_EQ(planned.plan.replica.empty(), !plans.is_first());
    plans.share(planned);
    EXPECT_EQ(planned.plan.replica.size(), 4U);
  });
}

TEST(MachinePlans, WhatCannotBePlannedIsRefusedOnAllRanks) {
  Config config = config_of(Method::kDpo, 4, 1);
  config.pack.max_tokens = 3;
  on_two_machines(config, [&](const Job& job) {
    StepPlanner together(job, {}, 1);
    try {
      together.take(test::random_groups(Method::kDpo, 8, 7), 1);
      ADD_FAILURE() << "was planned";
    } catch (const ConfigError& error) {
      EXPECT_NE(std::string(error.what()).find("pack.max_tokens"), std::string::npos) << error.what();
    }
  });
}

TEST(MachinePlans, APlanThatChangedOnItsWayIsNone) {
  const auto groups = test::random_groups(Method::kSft, 12, 7);
  plan::ParallelOptions parallel;
  parallel.dp = 2, parallel.pp = 1;
  const plan::StepPlan plan =
      plan::make_step_plan(groups, plan::Atomic::kSamples, parallel, {.layers = 2, .per_row = 1}, {.max_tokens = 200});
  std::vector<int64_t> words = words_of(plan);
  const auto read = [&] {
    IntegerReader from(words);
    return plan::read_plan(from, parallel);
  };
  EXPECT_EQ(words_of(read()), words);
  ++words[3];
  EXPECT_THROW(read(), CommError);
  --words[3], words.pop_back();
  EXPECT_THROW(read(), CommError);
  words[0] = int64_t{1} << 40;
  EXPECT_THROW(read(), CommError);
}

}  // namespace
}  // namespace fpdist::trainer
