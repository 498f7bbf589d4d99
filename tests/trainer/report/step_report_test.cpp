// A step's report from a record made by hand: exact numbers.

#include "src/trainer/report/step_report.hpp"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <mutex>
#include <string>

#include "fpdist/comm/world.hpp"
#include "src/plan/costs/unit_cost.hpp"

namespace fpdist::trainer {
namespace {

using plan::OpKind;

plan::PackPlan pack(int64_t rows, int64_t pairs, int64_t scores) {
  plan::PackPlan pack;
  pack.rows = rows, pack.pairs = pairs, pack.scores = scores;
  return pack;
}

/// Two replicas of two stages; 100 tokens, 40 of them computed, in two packs.
PlannedStep planned_step() {
  PlannedStep planned;
  planned.plan.replica = {{pack(30, 200, 9)}, {pack(10, 50, 1)}};
  planned.plan.totals = {.tokens_logical = 100, .tokens_computed = 40, .tokens_unique = 25};
  planned.forecast.busy = {{30, 10}, {10, 10}};
  planned.forecast.makespan = 60;
  planned.expected_seconds = 0.75;
  planned.seconds = 0.125, planned.waited = 0.0625;
  return planned;
}

/// The tiny shape whose work is counted.
constexpr arch::ModelShape kShape{.layers = 2, .hidden = 8, .intermediate = 16, .vocab = 32};

TEST(StepReport, SaysOfARecordWhatFollowsFromIt) {
  const PlannedStep planned = planned_step();
  const StepRecord record{.planned = planned,
                          .seconds = 2,
                          .metrics = {{"loss", 0.5}, {"reward", 3}},
                          .grad_norm = 4,
                          .learning_rate = 0.25};
  const RankSums sums{.named = {{"comm/pp_bytes", 640}, {"comm/pp_messages", 10}},
                      .busy = 2.5,
                      .exposed = 1,
                      .measured_seconds = 1.25,
                      .busy_of = {1, 0.5, 0.5, 0.5},
                      .plan_seconds = 0.5,
                      .plan_wait_seconds = 0.25};
  const ReportFacts facts{.mesh = {.dp = 2, .pp = 2}, .model = kShape, .peak_tflops = 1e-9};
  const auto values = report_step(record, sums, 1100, facts);

  plan::CostTable flops = plan::forward_cost(plan::stage_costs(kShape));
  flops.per_pack = 0;
  const auto forward = static_cast<double>(flops.cost(30, 200, 9) + flops.cost(10, 50, 1));
  EXPECT_GT(forward, 0);
  const std::map<std::string, double> expected{{"loss", 0.5},
                                               {"reward", 3},
                                               {"grad_norm", 4},
                                               {"learning_rate", 0.25},
                                               {"seconds", 2},
                                               {"comm/pp_bytes", 640},
                                               {"comm/pp_messages", 10},
                                               {"measured_seconds", 1.25},
                                               {"planned_seconds", 0.75},
                                               {"planned_bubble", 0.75},               // 60 units of 4 * 60
                                               {"replica_imbalance", 1.2},             // 1.5 and 1 seconds
                                               {"planned_replica_imbalance", 4. / 3},  // 40 and 20 units
                                               {"stage_imbalance", 1.2},               // 1.5 and 1 seconds
                                               {"sharing_possible", 4},
                                               {"plan_seconds", 0.5},
                                               {"plan_wait_seconds", 0.25},
                                               {"bubble", 0.5},                   // 2.5 busy seconds of 4 * 1.25
                                               {"exposed_communication", 0.125},  // 1 second of 4 * 2
                                               {"num_tokens", 1100},
                                               {"tokens_logical", 100},
                                               {"tokens_computed", 40},
                                               {"sharing_ratio", 2.5},
                                               {"tokens_per_second", 50},
                                               {"mfu", 3 * forward / 2 / (1e-9 * 1e12 * 4)}};
  for (const auto& [name, value] : expected) {
    ASSERT_TRUE(values.contains(name)) << name;
    EXPECT_DOUBLE_EQ(values.at(name), value) << name;
  }
  EXPECT_EQ(values.size(), expected.size());
}

TEST(StepReport, WhatIsUnknownIsNoNumberAndNothingDividesByZero) {
  PlannedStep planned;
  planned.forecast.busy = {{0}};
  planned.expected_seconds = std::nan("");
  const auto values = report_step({.planned = planned, .seconds = 1}, {.busy_of = {0}}, 0,
                                  {.mesh = {.dp = 1}, .model = kShape, .peak_tflops = 0});
  for (const char* unknown : {"mfu", "planned_seconds"}) EXPECT_TRUE(std::isnan(values.at(unknown))) << unknown;
  for (const char* nothing : {"bubble", "planned_bubble", "tokens_per_second"})
    EXPECT_EQ(values.at(nothing), 0) << nothing;
  for (const char* even : {"replica_imbalance", "stage_imbalance", "planned_replica_imbalance", "sharing_possible"})
    EXPECT_EQ(values.at(even), 1) << even;
}

TEST(StepReport, RanksAddUpTheirOpsAndTheSlowestCounts) {
  at::set_num_threads(1);
  std::mutex mutex;
  comm::run_threads(2, [&](comm::World& world) {
    const comm::Mesh mesh(world, {.dp = 1, .pp = 2});
    const double late = world.rank();  // the second stage's ops are one second longer
    PlannedStep planned = planned_step();
    planned.seconds += late;
    const StepRecord own{.planned = planned,
                         .ops = {{.kind = OpKind::kReceive},
                                 {.kind = OpKind::kForward},
                                 {.kind = OpKind::kBackwardInput},
                                 {.kind = OpKind::kOptimizerStep}},
                         .times = {{0, 0.5}, {0.5, 1.5 + late}, {3, 4 + late}, {5, 9}},
                         .exchange_seconds = 0.25,
                         .traffic = {{"pp", {.bytes = 100 + world.rank(), .messages = 3}}},
                         .memory = comm::MemoryUse{.bytes = 7 + world.rank(), .peak = 20 - world.rank()}};
    const RankSums sums = add_up(own, mesh);
    const std::lock_guard lock(mutex);
    EXPECT_DOUBLE_EQ(sums.busy, 2 + 4);
    EXPECT_EQ(sums.busy_of, (std::vector<double>{2, 4}));
    EXPECT_DOUBLE_EQ(sums.exposed, 2 * (0.5 + 0.25)) << "messages, and what is said to lie between ops";
    EXPECT_DOUBLE_EQ(sums.measured_seconds, 5) << "the update is no compute";
    EXPECT_DOUBLE_EQ(sums.plan_seconds, 1.125);
    EXPECT_DOUBLE_EQ(sums.plan_wait_seconds, 0.0625);
    EXPECT_EQ(sums.named,
              (std::map<std::string, double>{
                  {"comm/pp_bytes", 201}, {"comm/pp_messages", 6}, {"memory/bytes", 8}, {"memory/peak_bytes", 20}}));
  });
}

}  // namespace
}  // namespace fpdist::trainer
