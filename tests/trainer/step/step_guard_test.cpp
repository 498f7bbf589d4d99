#include "src/trainer/step/step_guard.hpp"

#include <gtest/gtest.h>

#include <cmath>

namespace fpdist::trainer {
namespace {

TrainOptions skipping(int64_t most = 10) {
  TrainOptions options;
  options.on_nan = "skip", options.on_spike = "skip", options.spike_factor = 4, options.max_skipped = most;
  return options;
}

TEST(StepGuard, ASpikeIsSoManyTimesTheMedianOfRecentNorms) {
  StepGuard guard(skipping());
  for (size_t i = 0; i < StepGuard::kLeast; ++i) {
    EXPECT_TRUE(std::isinf(guard.most_norm())) << i << " norms say nothing";
    guard.updated(i == 3 ? 1000.0 : 2.0);  // one that was let through while nothing was known
  }
  EXPECT_EQ(guard.most_norm(), 8.0);
  for (size_t i = 0; i < StepGuard::kRecent; ++i) guard.updated(0.5);
  EXPECT_EQ(guard.most_norm(), 2.0) << "old norms are forgotten";
  EXPECT_EQ(guard.state().recent_norms.size(), StepGuard::kRecent);
}

TEST(StepGuard, OffMeansThatNoNormIsTooLarge) {
  StepGuard guard(TrainOptions{});
  for (int i = 0; i < 100; ++i) guard.updated(1);
  EXPECT_TRUE(std::isinf(guard.most_norm()));
  EXPECT_TRUE(guard.state().recent_norms.empty());
}

TEST(StepGuard, LeavesOutWhatItMayUntilItIsTooMany) {
  StepGuard guard(skipping(2));
  EXPECT_TRUE(guard.leave_out(StepEnd::kNotFinite));
  EXPECT_TRUE(guard.leave_out(StepEnd::kSpike));
  EXPECT_FALSE(guard.leave_out(StepEnd::kNotFinite));
  EXPECT_EQ(guard.state().skipped, 2);
  EXPECT_EQ(guard.why_it_stops(StepEnd::kNotFinite), "2 steps were left out before, train.max_skipped is 2");
  StepGuard stops(TrainOptions{});
  EXPECT_FALSE(stops.leave_out(StepEnd::kNotFinite));
  EXPECT_EQ(stops.why_it_stops(StepEnd::kNotFinite), "train.on_nan is stop");
}

TEST(StepGuard, GoesOnFromItsState) {
  StepGuard first(skipping(3));
  for (int i = 0; i < 20; ++i) first.updated(i);
  first.leave_out(StepEnd::kSpike);
  const StepGuard second(skipping(3), first.state());
  EXPECT_EQ(second.most_norm(), first.most_norm());
  EXPECT_EQ(second.state().skipped, 1);
}

}  // namespace
}  // namespace fpdist::trainer
