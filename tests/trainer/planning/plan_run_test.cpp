// A run's plans beside its clock: metrics, calibration, drift, planning ahead.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <thread>

#include "fpdist/core/error.hpp"
#include "fpdist/core/rng.hpp"
#include "fpdist/trainer/trainer.hpp"
#include "src/plan/costs/costs_file.hpp"
#include "src/trainer/planning/step_planner.hpp"
#include "tests/support/files/scratch.hpp"
#include "tests/support/random/random_groups.hpp"
#include "tests/support/words/heard_log.hpp"

namespace fpdist::trainer {
namespace {

namespace fs = std::filesystem;

int count(const std::string& text, const std::string& words) {
  int found = 0;
  for (size_t at = text.find(words); at != std::string::npos; at = text.find(words, at + 1)) ++found;
  return found;
}

class PlanRun : public ::testing::Test {
 protected:
  PlanRun() { at::set_num_threads(1); }

  Config config(int pp, int dp = 1) const {
    Config config;
    config.method = Method::kSft;
    config.model.preset = "tiny";
    config.data.path = {(dir_ / "data.jsonl").string()};
    config.train.output_dir = (dir_ / "out").string();
    config.optim.learning_rate = 1e-3;
    config.parallel.pp = pp, config.parallel.dp = dp;
    config.pack.max_tokens = 200;
    return config;
  }

  /// Groups of `members` rows behind one prompt each.
  void write_data(int groups, int members, uint64_t most) const {
    Rng rng(3, 9);
    std::ofstream file(dir_ / "data.jsonl");
    const auto ids = [&](uint64_t length) {
      std::string all;
      for (uint64_t t = 0; t < length; ++t) all += text(t ? "," : "", rng.below(200));
      return all;
    };
    for (int g = 0; g < groups; ++g) {
      const std::string prompt = ids(4 + rng.below(most));
      for (int m = 0; m < members; ++m) {
        const std::string row = text(prompt, ",", ids(2 + rng.below(most)));
        file << R"({"input_ids":[)" << row << R"(],"labels":[)" << row << "]}\n";
      }
    }
  }

  const test::Scratch scratch_;
  const fs::path dir_ = scratch_.path();
  test::HeardLog log_;
};

std::vector<data::Group> groups_of_step(uint64_t step) { return test::random_groups(Method::kSft, 12, 100 + step); }

TEST_F(PlanRun, EveryStepSaysWhatWasPlannedAndWhatWasMeasured) {
  std::map<std::string, double> first, second;
  comm::run_threads(4, [&](comm::World& world) {
    Trainer trainer(world, config(2, 2), log_);
    const auto one = trainer.step(groups_of_step(0)).values, two = trainer.step(groups_of_step(1)).values;
    if (world.rank() == 3) first = one, second = two;
  });
  EXPECT_TRUE(std::isnan(first.at("planned_seconds"))) << "no step has told how long a unit takes";
  EXPECT_GT(second.at("planned_seconds"), 0);
  for (const auto& step : {first, second}) {
    EXPECT_GT(step.at("measured_seconds"), 0);
    EXPECT_LT(step.at("measured_seconds"), step.at("seconds"));
    for (const char* name : {"replica_imbalance", "stage_imbalance", "planned_replica_imbalance"}) {
      EXPECT_GE(step.at(name), 1 - 1e-9) << name;
      EXPECT_LE(step.at(name), 2 + 1e-9) << name;  // two of each
    }
    EXPECT_GT(step.at("planned_bubble"), 0);
    EXPECT_LT(step.at("planned_bubble"), 1);
    EXPECT_GE(step.at("sharing_possible"), step.at("sharing_ratio") - 1e-12);
    EXPECT_GT(step.at("plan_seconds"), 0);
    EXPECT_GE(step.at("plan_wait_seconds"), step.at("plan_seconds")) << "nothing was planned ahead";
  }
}

TEST_F(PlanRun, WithOnePackAllSharingIsKept) {
  Config run = config(1);
  run.pack.max_tokens = 100'000;
  comm::run_threads(1, [&](comm::World& world) {
    Trainer trainer(world, run, log_);
    const auto values = trainer.step(groups_of_step(0)).values;
    EXPECT_DOUBLE_EQ(values.at("sharing_possible"), values.at("sharing_ratio"));
    EXPECT_GT(values.at("sharing_possible"), 1);
    EXPECT_DOUBLE_EQ(values.at("planned_replica_imbalance"), 1);
  });
}

/// Hashes of the plans that costs give for some steps.
std::vector<uint64_t> hashes(const StepPlanner& planner) {
  std::vector<uint64_t> all;
  for (uint64_t s = 0; s < 5; ++s) all.push_back(planner.plan(groups_of_step(s), true).hash);
  return all;
}

/// Op times of a machine on which a unit of `truth` takes a nanosecond.
std::vector<parallel::OpTime> times_on(const Job& job, const PlannedStep& planned, std::span<const plan::Op> ops,
                                       const plan::StageCosts& truth) {
  std::vector<parallel::OpTime> times(ops.size());
  std::vector<size_t> compute;
  for (size_t i = 0; i < ops.size(); ++i)
    if (ops[i].kind == plan::OpKind::kForward || ops[i].kind == plan::OpKind::kBackwardInput) compute.push_back(i);
  const auto timed = timed_ops(planned, job.mesh.shape(), job.mesh.at(), job.config.parallel.layers, ops, times);
  EXPECT_EQ(timed.size(), compute.size());
  for (size_t k = 0; k < compute.size(); ++k)
    times[compute[k]] = {0, 1e-9 * static_cast<double>(plan::units_of(truth, timed[k]))};
  return times;
}

/// Edges are dear and pairs cost nothing.
plan::StageCosts foreign_costs(int64_t layers) {
  return {.layers = layers,
          .per_row = 40'000,
          .forward_pair = 500,
          .backward_pair = 900,
          .per_edge = 300'000,
          .overhead_rows = 40};
}

/// A step of the planner on such a machine, `measured` seconds long; 0: ten times what was planned.
void learn_step(StepPlanner& planner, const Job& job, int64_t number, double measured, LogSink& log) {
  const auto groups = groups_of_step(static_cast<uint64_t>(number));
  const PlannedStep planned = planner.take(groups, number);
  const auto ops = ops_of(planned.plan, job.mesh.at());
  const auto times = times_on(job, planned, ops, foreign_costs(planner.costs().layers));
  planner.learn(planned, ops, times, measured > 0 ? measured : 10 * planned.expected_seconds, log);
}

TEST_F(PlanRun, ACalibratedRunStoresItsCosts) {
  write_data(10, 2, 20);
  Config run = config(2);
  run.train.groups_per_step = 20, run.train.max_steps = 3, run.plan.calibrate_steps = 2;
  std::string by_flops;
  comm::run_threads(2, [&](comm::World& world) {
    const Job job(world, run, log_);
    if (world.rank() == 0) by_flops = plan::to_text(StepPlanner(job).costs());
  });
  comm::run_threads(2, [&](comm::World& world) { Trainer(world, run, log_).train(); });
  EXPECT_EQ(count(log_.said(), " costs fitted to"), 1) << log_.said();
  EXPECT_NE(log_.said().find("plans use them from step 3 on"), std::string::npos) << log_.said();
  EXPECT_NE(log_.said().find("mean error"), std::string::npos);
  const std::string path = (dir_ / "out/costs.yaml").string();
  EXPECT_NE(log_.said().find("plan.costs: " + path + " repeats these plans"), std::string::npos) << log_.said();
  EXPECT_NE(plan::to_text(plan::read_costs(path)), by_flops);
}

TEST_F(PlanRun, StoredCostsRepeatThePlansOfTheRunThatMeasuredThem) {
  Config run = config(2);
  run.plan.calibrate_steps = 2;
  const std::string path = (dir_ / "costs.yaml").string();
  std::vector<uint64_t> by_flops, measured, repeated;
  comm::run_threads(2, [&](comm::World& world) {
    const Job job(world, run, log_);
    StepPlanner planner(job);
    planner.set_costs_file(path);
    if (world.rank() == 0) by_flops = hashes(planner);
    for (int64_t step = 1; step <= 2; ++step) learn_step(planner, job, step, 1.0, log_);
    EXPECT_EQ(planner.costs_version(), 1);
    if (world.rank() == 0) measured = hashes(planner);
  });
  EXPECT_NE(measured, by_flops);
  run.plan = {.costs = path, .calibrate_steps = 0};
  comm::run_threads(2, [&](comm::World& world) {
    const Job job(world, run, log_);
    if (world.rank() == 0) repeated = hashes(StepPlanner(job));
  });
  EXPECT_EQ(repeated, measured);
}

TEST_F(PlanRun, EveryOtherCalibrationStepGoesInSlices) {
  const auto slices = [](const Config& config) {
    std::vector<int> all;
    for (int64_t step = 0; step < 7; ++step) all.push_back(planning_config(config, step).pack.slices);
    return all;
  };
  Config run = config(2);
  EXPECT_EQ(slices(run), (std::vector<int>{0, 0, 0, 0, 0, 0, 0}));
  run.plan.calibrate_steps = 6;
  EXPECT_EQ(slices(run), (std::vector<int>{0, 4, 0, 2, 0, 8, 0}));
  run.pack.slices = 3;
  EXPECT_EQ(slices(run), (std::vector<int>{3, 3, 3, 3, 3, 3, 3})) << "who asks for slices gets them";
  run.pack.slices = 0, run.parallel.pp = 1;
  EXPECT_EQ(slices(run), (std::vector<int>{0, 0, 0, 0, 0, 0, 0})) << "without a pipeline there is nothing to slice";
}

TEST_F(PlanRun, ACostFileOfAnotherModelIsRefused) {
  Config run = config(1);
  plan::write_costs({.layers = 99}, "", (dir_ / "other.yaml").string());
  run.plan.costs = (dir_ / "other.yaml").string();
  comm::run_threads(1, [&](comm::World& world) { EXPECT_THROW(Trainer(world, run, log_), ConfigError); });
  run.plan.costs = (dir_ / "missing.yaml").string();
  comm::run_threads(1, [&](comm::World& world) { EXPECT_THROW(Trainer(world, run, log_), ConfigError); });
}

TEST_F(PlanRun, WhenTimesDriftAwayACalibratedRunFitsAgain) {
  Config run = config(2);
  run.plan.calibrate_steps = 1;
  comm::run_threads(2, [&](comm::World& world) {
    const Job job(world, run, log_);
    StepPlanner planner(job);
    learn_step(planner, job, 1, 1.0, log_);
    for (int64_t step = 2; step < 2 + PlanWatch::kPatience; ++step) {
      EXPECT_EQ(planner.costs_version(), 1);
      learn_step(planner, job, step, 0, log_);
    }
    EXPECT_EQ(planner.costs_version(), 2);
    const plan::StageCosts& costs = planner.costs();
    EXPECT_NEAR(static_cast<double>(costs.per_edge) / static_cast<double>(costs.per_row), 7.5, 0.01);
    EXPECT_NEAR(static_cast<double>(costs.overhead_rows), 40, 1);
    EXPECT_NEAR(planner.seconds_per_unit() * static_cast<double>(costs.per_row), 4e-5, 1e-8);
    (void)planner.take(groups_of_step(1), 2 + PlanWatch::kPatience);  // the hash of its plan is compared
  });
  EXPECT_EQ(count(log_.said(), "warning the last 20 steps took more than 10.0 % more or less than planned"), 2)
      << log_.said();  // one a rank
}

TEST_F(PlanRun, APlanMadeAheadIsTakenByTheStepWithItsGroups) {
  comm::run_threads(1, [&](comm::World& world) {
    const Job job(world, config(1), log_);
    std::atomic<int> laid_out = 0;
    StepPlanner planner(job, {.lay_out = [&](PlannedStep&) { ++laid_out; }});
    const auto coming = std::make_shared<const std::vector<data::Group>>(groups_of_step(1));
    const auto left_out = std::make_shared<const std::vector<data::Group>>(groups_of_step(2));
    planner.ahead(left_out, 2);
    planner.ahead(coming, 3);
    (void)planner.take(groups_of_step(0), 1);  // of groups that were never announced
    const PlannedStep planned = planner.take(*coming, 2);
    EXPECT_EQ(planned.groups.all.data(), coming->data());
    EXPECT_EQ(planned.plan.hash, planner.plan(*coming, true).hash);
    EXPECT_EQ(laid_out, 2) << "each of the two ahead, and no other";
  });
}

TEST_F(PlanRun, APlanMadeWithOldCostsIsMadeAgain) {
  Config run = config(1);
  run.plan.calibrate_steps = 1;
  comm::run_threads(1, [&](comm::World& world) {
    const Job job(world, run, log_);
    StepPlanner planner(job);
    const auto groups = std::make_shared<const std::vector<data::Group>>(groups_of_step(0));
    planner.ahead(groups, 2);
    learn_step(planner, job, 1, 1.0, log_);
    const PlannedStep planned = planner.take(*groups, 2);
    EXPECT_EQ(planned.costs_version, 1);
    EXPECT_EQ(planned.plan.hash, planner.plan(*groups, true).hash);
  });
}

TEST_F(PlanRun, AMachineThatSlowsDownIsSaidWithTheKeyThatCuresIt) {
  comm::run_threads(1, [&](comm::World& world) {
    Trainer trainer(world, config(1), log_);
    bool is_slow = false;
    const loss::LossFunction nll = loss::make_loss(Method::kSft, {});
    trainer.set_loss([&](const loss::Edges& edges, const plan::StepTotals& totals) {
      if (is_slow) std::this_thread::sleep_for(std::chrono::milliseconds(60));
      return nll(edges, totals);
    });
    const auto groups = test::random_groups(Method::kSft, 2, 1);
    for (int s = 0; s < 2 * PlanWatch::kPatience + 2; ++s) {
      is_slow = s >= PlanWatch::kPatience + 1;
      trainer.step(groups);
    }
  });
  EXPECT_GE(count(log_.said(), "set plan.calibrate_steps: 5"), 1) << log_.said();
}

TEST_F(PlanRun, PlanningAheadIsHiddenBehindTheStep) {
  write_data(250, 2, 12);
  Config run = config(2);
  run.train.groups_per_step = 300, run.train.max_steps = 3, run.pack.max_tokens = 1000;
  double planning = 0, waiting = 0;
  comm::run_threads(2, [&](comm::World& world) {
    Trainer trainer(world, run, log_);
    trainer.set_hook([&](const StepMetrics& step) {
      if (world.rank() != 0 || step.step == 1) return;  // the first is planned before anything runs
      planning += step.values.at("plan_seconds"), waiting += step.values.at("plan_wait_seconds");
    });
    trainer.train();
  });
  EXPECT_GT(planning, 0);
  EXPECT_LT(waiting, 0.5 * planning) << planning << " s of planning";
  std::cout << "planning took " << planning << " s, steps waited " << waiting << " s for it\n";
}

}  // namespace
}  // namespace fpdist::trainer
