#include "src/trainer/watch/progress_watch.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace fpdist::trainer {
namespace {

TEST(MovingAverage, IsAMeanFromTheFirstValueOn) {
  MovingAverage average;
  EXPECT_TRUE(std::isnan(average.value()));
  average.add(5);
  EXPECT_DOUBLE_EQ(average.value(), 5);
  average.add(1);
  EXPECT_DOUBLE_EQ(average.value(), (0.9 * 5 + 1) / 1.9);
  for (int i = 0; i < 500; ++i) average.add(-3);
  EXPECT_NEAR(average.value(), -3, 1e-12);
}

TEST(MovingAverage, PassesOverWhatIsNoNumber) {
  MovingAverage average;
  average.add(std::numeric_limits<double>::quiet_NaN());
  EXPECT_TRUE(std::isnan(average.value()));
  average.add(2);
  average.add(std::numeric_limits<double>::infinity());
  EXPECT_DOUBLE_EQ(average.value(), 2);
}

TEST(ProgressWatch, SaysWhereTheRunStands) {
  ProgressWatch watch(/*steps_done=*/10, /*max_steps=*/20, {.label = "accuracy", .metric = "rewards/accuracies"});
  EXPECT_EQ(watch.in_phase("", 0.0).step, 10);
  EXPECT_TRUE(std::isnan(watch.in_phase("", 0.0).seconds_left));
  watch.after_step({.step = 11, .values = {{"loss", 4}, {"tokens_per_second", 100}}}, 3.0);
  const RunProgress progress =
      watch.after_step({.step = 12, .values = {{"loss", 2}, {"rewards/accuracies", 0.75}, {"sharing_ratio", 3}}}, 5.0);
  EXPECT_EQ(progress.step, 12);
  EXPECT_EQ(progress.max_steps, 20);
  EXPECT_DOUBLE_EQ(progress.loss, (0.9 * 4 + 2) / 1.9);
  EXPECT_DOUBLE_EQ(progress.tokens_per_second, 100);
  EXPECT_DOUBLE_EQ(progress.elapsed_seconds, 5);
  EXPECT_DOUBLE_EQ(progress.seconds_left, 20) << "8 steps at the 2.5 seconds of this process's two";
  EXPECT_EQ(progress.shown, "accuracy 0.750");
  const RunProgress evaluating = watch.in_phase("evaluating", 6.0);
  EXPECT_EQ(evaluating.phase, "evaluating");
  EXPECT_EQ(evaluating.step, 12);
  EXPECT_EQ(watch.after_step({.step = 13, .values = {}}, 7.0).phase, "");
}

}  // namespace
}  // namespace fpdist::trainer
