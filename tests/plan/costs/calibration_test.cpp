#include "src/plan/costs/calibration.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/core/rng.hpp"
#include "src/plan/costs/costs_file.hpp"
#include "tests/support/files/scratch.hpp"

namespace fpdist::plan {
namespace {

constexpr double kSecondsPerUnit = 3e-11;

StageCosts draw_costs(uint64_t seed) {
  Rng rng(seed, 11);
  const auto draw = [&](int64_t from, uint64_t span) { return from + static_cast<int64_t>(rng.below(span)); };
  return {.layers = 32,
          .per_row = draw(20000, 90000),
          .forward_pair = draw(5, 30),
          .backward_pair = draw(5, 60),
          .per_edge = draw(30000, 300000),
          .overhead_rows = draw(20, 800),
          .recompute = rng.below(2) > 0};
}

/// Ops of units of all sizes on stages of several sizes, in time as `costs` say, times 1 + noise * normal.
std::vector<TimedOp> draw_ops(const StageCosts& costs, uint64_t seed, double noise, int units = 60) {
  Rng rng(seed, 12);
  std::vector<TimedOp> ops;
  for (int u = 0; u < units; ++u) {
    const auto rows = static_cast<int64_t>(200 + rng.below(8000));
    const auto pairs = rows * static_cast<int64_t>(50 + rng.below(6000));
    const Amount work{rows, pairs, static_cast<int64_t>(rng.below(static_cast<uint64_t>(rows)))};
    for (const bool has_head : {false, true})
      for (const TimedPass pass :
           {TimedPass::kForward, TimedPass::kBackwardInput, TimedPass::kBackwardWeight, TimedPass::kBackward}) {
        TimedOp op{pass, has_head ? 7 : 9, has_head, work, 0};
        op.seconds = static_cast<double>(units_of(costs, op)) * kSecondsPerUnit * (1 + noise * rng.normal());
        ops.push_back(op);
      }
  }
  return ops;
}

/// Relative differences between what the fit and `costs` say about `ops`.
std::vector<double> differences(const CostFit& fit, const StageCosts& costs, const std::vector<TimedOp>& ops) {
  std::vector<double> all;
  for (const TimedOp& op : ops) {
    const double wanted = static_cast<double>(units_of(costs, op)) * kSecondsPerUnit;
    all.push_back(std::abs(static_cast<double>(units_of(fit.costs, op)) * fit.seconds_per_unit / wanted - 1));
  }
  return all;
}
double worst_difference(const CostFit& fit, const StageCosts& costs, const std::vector<TimedOp>& ops) {
  const auto all = differences(fit, costs, ops);
  return *std::max_element(all.begin(), all.end());
}
double mean_difference(const CostFit& fit, const StageCosts& costs, const std::vector<TimedOp>& ops) {
  const auto all = differences(fit, costs, ops);
  return std::accumulate(all.begin(), all.end(), 0.0) / static_cast<double>(all.size());
}

const StageCosts kGiven;  // far from what is drawn

TEST(Calibration, ExactTimesGiveTheCostsBack) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    const StageCosts costs = draw_costs(seed);
    StageCosts given = kGiven;
    given.recompute = costs.recompute, given.layers = costs.layers;
    const CostFit fit = fit_costs(draw_ops(costs, seed, 0), given);
    const auto seconds = [&](int64_t units) { return static_cast<double>(units) * fit.seconds_per_unit; };
    const auto near = [&](int64_t got, int64_t wanted) {
      EXPECT_NEAR(seconds(got) / (static_cast<double>(wanted) * kSecondsPerUnit), 1, 2e-3);
    };
    near(fit.costs.per_row, costs.per_row);
    near(fit.costs.forward_pair, costs.forward_pair);
    near(fit.costs.backward_pair, costs.backward_pair);
    near(fit.costs.per_edge, costs.per_edge);
    EXPECT_NEAR(static_cast<double>(fit.costs.overhead_rows), static_cast<double>(costs.overhead_rows), 2);
    EXPECT_GE(std::min({fit.costs.per_row, fit.costs.forward_pair, fit.costs.per_edge}), 1000) << "four digits";
    EXPECT_LT(fit.worst_error, 2e-3);
    EXPECT_EQ(fit.ops, 480);
  }
}

TEST(Calibration, NoiseOfFivePercentMovesThePredictionsByLess) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    const StageCosts costs = draw_costs(seed);
    StageCosts given = kGiven;
    given.recompute = costs.recompute;
    const auto ops = draw_ops(costs, seed, 0.05);
    const CostFit fit = fit_costs(ops, given);
    EXPECT_LT(worst_difference(fit, costs, ops), 0.12) << "small operations: overhead is taken at its upper end";
    EXPECT_LT(mean_difference(fit, costs, ops), 0.025);
    EXPECT_GT(fit.mean_error, 0.02);  // 5 % normal noise is 4 % in the mean
    EXPECT_LT(fit.mean_error, 0.06);
    EXPECT_GE(fit.worst_error, fit.mean_error);
  }
}

TEST(Calibration, AFitNeedsFewOpsAndSurvivesAStall) {
  const StageCosts costs = draw_costs(3);
  StageCosts given = kGiven;
  given.recompute = costs.recompute;
  auto ops = draw_ops(costs, 3, 0.02, 10);
  ops[17].seconds *= 40;  // somebody else had the core
  EXPECT_LT(worst_difference(fit_costs(ops, given), costs, ops), 0.15);
}

/// Each ratio of the fit over that of the given costs.
void expect_given_ratios(const CostFit& fit, const StageCosts& given, double tolerance) {
  const auto ratio = [&](int64_t got, int64_t of_given) {
    return static_cast<double>(got) * static_cast<double>(given.per_row) /
           (static_cast<double>(fit.costs.per_row) * static_cast<double>(of_given));
  };
  EXPECT_NEAR(ratio(fit.costs.forward_pair, given.forward_pair), 1, tolerance);
  EXPECT_NEAR(ratio(fit.costs.backward_pair, given.backward_pair), 1, tolerance);
  EXPECT_NEAR(ratio(fit.costs.per_edge, given.per_edge), 1, tolerance);
  EXPECT_NEAR(static_cast<double>(fit.costs.overhead_rows), static_cast<double>(given.overhead_rows), 1);
}

TEST(Calibration, EqualPacksKeepTheGivenProportions) {
  std::vector<TimedOp> ops;
  for (int n = 0; n < 12; ++n) {
    TimedOp op{n % 2 ? TimedPass::kBackward : TimedPass::kForward, 8, true, {4096, 4096 * 1000, 900}, 0};
    op.seconds = static_cast<double>(units_of(kGiven, op)) * kSecondsPerUnit;
    ops.push_back(op);
  }
  const CostFit fit = fit_costs(ops, kGiven);
  expect_given_ratios(fit, kGiven, 1e-3);
  EXPECT_LT(fit.worst_error, 1e-3);
}

TEST(Calibration, WhatWasNeverSeenKeepsItsProportionToTheRest) {
  std::vector<TimedOp> ops = draw_ops(kGiven, 5, 0);
  std::erase_if(ops, [](const TimedOp& op) { return op.has_head; });  // no stage with edges
  for (TimedOp& op : ops) op.seconds *= 3;
  expect_given_ratios(fit_costs(ops, kGiven), kGiven, 1e-3);
  std::erase_if(ops, [](const TimedOp& op) { return op.pass != TimedPass::kBackwardWeight; });  // nor pairs
  expect_given_ratios(fit_costs(ops, kGiven), kGiven, 1e-3);
}

TEST(Calibration, UnderNoiseOverheadIsNotTakenForNothing) {
  for (uint64_t seed = 0; seed < 30; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    StageCosts costs = kGiven;
    costs.overhead_rows = 30;
    const CostFit fit = fit_costs(draw_ops(costs, seed, 0.2, 20), kGiven);
    EXPECT_GE(fit.costs.overhead_rows, 20);
    EXPECT_LE(fit.costs.overhead_rows, 300) << "nor for more than was given";
    EXPECT_NEAR(static_cast<double>(fit_costs(draw_ops(costs, seed, 0), kGiven).costs.overhead_rows), 30, 1);
  }
}

TEST(Calibration, NothingIsNegativeWhateverTheTimesSay) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    Rng rng(seed, 13);
    std::vector<TimedOp> ops = draw_ops(draw_costs(seed), seed, 0, 6);
    for (TimedOp& op : ops) op.seconds = rng.uniform();  // nothing to do with the work
    const CostFit fit = fit_costs(ops, kGiven);
    EXPECT_GE(fit.costs.per_row, 1);
    EXPECT_GE(std::min({fit.costs.forward_pair, fit.costs.backward_pair, fit.costs.per_edge}), 0);
    EXPECT_GE(fit.costs.overhead_rows, 0);
    EXPECT_GT(fit.seconds_per_unit, 0);
    EXPECT_TRUE(std::isfinite(fit.mean_error));
    EXPECT_NO_THROW(parse_costs(to_text(fit.costs), "fit")) << "the file takes it";
  }
}

TEST(Calibration, WithoutUsableOpsTheGivenCostsStay) {
  const CostFit none = fit_costs({}, kGiven);
  EXPECT_EQ(none.ops, 0);
  EXPECT_EQ(to_text(none.costs), to_text(kGiven));
  const std::vector<TimedOp> empty{{TimedPass::kForward, 3, true, {}, 1.0},
                                   {TimedPass::kForward, 3, true, {5, 15, 1}, 0.0},
                                   {TimedPass::kForward, 3, true, {5, 15, 1}, std::nan("")}};
  EXPECT_EQ(fit_costs(empty, kGiven).ops, 0);
}

TEST(Calibration, CostsComeBackFromTheirFile) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const StageCosts costs = draw_costs(seed);
    const std::string text = to_text(costs, "measured\non 8 ranks");
    EXPECT_EQ(text.rfind("# measured\n# on 8 ranks\nlayers: 32\n", 0), 0u) << text;
    EXPECT_EQ(to_text(parse_costs(text, "c")), to_text(costs));
  }
  const test::Scratch scratch;
  const std::string path = scratch / "costs.yaml";
  write_costs(kGiven, "here", path);
  EXPECT_EQ(to_text(read_costs(path)), to_text(kGiven));
  arch::ModelShape model;
  model.layers = kGiven.layers;
  for (const bool recompute : {false, true})  // the run's, whatever the file says
    EXPECT_EQ(costs_of_model(model, recompute, path).recompute, recompute);
  EXPECT_EQ(to_text(costs_of_model(model, true, "")), to_text(stage_costs(model, true)));
  ++model.layers;
  EXPECT_THROW(costs_of_model(model, false, path), ConfigError);
  EXPECT_THROW(write_costs(kGiven, "", "/no/such/folder/costs.yaml"), DiskError);
  EXPECT_THROW(write_costs(kGiven, "", "/dev/full"), DiskError);
}

}  // namespace
}  // namespace fpdist::plan
