// Planned against measured times, with a clock that says what the test wants.

#include "src/trainer/planning/plan_watch.hpp"

#include <gtest/gtest.h>

#include <cmath>

namespace fpdist::trainer {
namespace {

constexpr double kUnit = 2e-9;
constexpr int64_t kUnits = 1'000'000;

/// Adds `count` steps that take `factor` times what kUnit says; how many of them call.
int calls(PlanWatch& watch, int count, double factor) {
  int called = 0;
  for (int i = 0; i < count; ++i) called += watch.add(kUnits, factor * kUnit * static_cast<double>(kUnits));
  return called;
}

TEST(PlanWatch, StepsAsPlannedSayNothing) {
  PlanWatch watch;
  watch.fix(kUnit);
  EXPECT_EQ(calls(watch, 500, 1.09) + calls(watch, 500, 0.91), 0);
}

TEST(PlanWatch, TwentyStepsInARowOffByATenthCallOnce) {
  for (const double factor : {1.2, 0.8}) {
    PlanWatch watch;
    watch.fix(kUnit);
    EXPECT_EQ(calls(watch, 19, factor), 0);
    EXPECT_EQ(calls(watch, 1, factor), 1);
    EXPECT_EQ(calls(watch, 19, factor), 0) << "the count begins again";
    EXPECT_EQ(calls(watch, 1, factor), 1);
  }
}

TEST(PlanWatch, OneStepAsPlannedBreaksTheRow) {
  PlanWatch watch;
  watch.fix(kUnit);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(calls(watch, 19, 1.5) + calls(watch, 1, 1.0), 0);
}

TEST(PlanWatch, WithoutCalibrationTheScaleIsTheMedianOfRecentSteps) {
  PlanWatch watch;
  EXPECT_TRUE(std::isnan(watch.seconds_per_unit()));
  EXPECT_FALSE(watch.add(kUnits, 1.0)) << "nothing is known before the first step";
  calls(watch, 20, 1.0);
  calls(watch, 5, 30.0);  // stalls
  EXPECT_DOUBLE_EQ(watch.seconds_per_unit(), kUnit);
  EXPECT_DOUBLE_EQ(watch.planned_seconds(10 * kUnits), 10 * kUnit * static_cast<double>(kUnits));
  EXPECT_EQ(calls(watch, static_cast<int>(PlanWatch::kRecent), 1.0), 0);
  EXPECT_EQ(calls(watch, 400, 2.0), 1) << "a machine that has become slower is said once, then known";
  EXPECT_DOUBLE_EQ(watch.seconds_per_unit(), 2 * kUnit);
}

TEST(PlanWatch, PlansInWrongProportionsAreSaidWhateverTheScale) {
  PlanWatch watch;
  int called = 0;
  for (int i = 0; i < 400; ++i) called += calls(watch, 1, i % 40 < 20 ? 1.0 : 3.0);  // no scale fits both
  EXPECT_GE(called, 1);
}

TEST(PlanWatch, ANewFitForgetsWhatWas) {
  PlanWatch watch;
  watch.fix(kUnit);
  calls(watch, 19, 3.0);
  watch.fix(3 * kUnit);
  EXPECT_EQ(calls(watch, 30, 3.0), 0);
}

TEST(PlanWatch, AStepOfNothingIsPassedOver) {
  PlanWatch watch;
  EXPECT_FALSE(watch.add(0, 1.0));
  EXPECT_FALSE(watch.add(kUnits, 0.0));
  EXPECT_TRUE(std::isnan(watch.seconds_per_unit()));
}

}  // namespace
}  // namespace fpdist::trainer
