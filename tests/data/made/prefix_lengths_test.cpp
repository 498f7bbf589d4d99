// How much of a demonstration a hybrid begins with.

#include "fpdist/data/prefix_lengths.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <vector>

#include "fpdist/core/error.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::data {
namespace {

TEST(ShareSchedule, DecaysBehindADelayAndAWarmup) {
  const ShareSchedule constant{.first = 0.7, .last = 0.1, .steps = 4};
  for (const int64_t step : {0, 3, 100}) EXPECT_EQ(constant.at(step), 0.7);
  const ShareSchedule linear{.decay = Decay::kLinear, .first = 0.9, .last = 0.1, .steps = 4};
  EXPECT_DOUBLE_EQ(linear.at(0), 0.9);
  EXPECT_DOUBLE_EQ(linear.at(1), 0.7);
  EXPECT_DOUBLE_EQ(linear.at(4), 0.1);
  EXPECT_DOUBLE_EQ(linear.at(5), 0.1);
  ShareSchedule cosine{.decay = Decay::kCosine, .first = 0.9, .last = 0.1, .steps = 4};
  EXPECT_DOUBLE_EQ(cosine.at(0), 0.9);
  EXPECT_DOUBLE_EQ(cosine.at(1), 0.1 + 0.5 * (1 + std::sqrt(0.5)) * 0.8);
  EXPECT_DOUBLE_EQ(cosine.at(2), 0.5);
  EXPECT_DOUBLE_EQ(cosine.at(4), 0.1);
  cosine.warmup_steps = 2, cosine.delay_steps = 3, cosine.delay_value = 0.25;
  for (const int64_t step : {0, 2}) EXPECT_EQ(cosine.at(step), 0.25);
  EXPECT_EQ(cosine.at(3), 0);
  EXPECT_DOUBLE_EQ(cosine.at(4), 0.45);
  EXPECT_DOUBLE_EQ(cosine.at(5), 0.9);
  EXPECT_DOUBLE_EQ(cosine.at(7), 0.5);
}

TEST(PrefixLengths, AreAFunctionOfSeedStepAndId) {
  const PrefixLengths lengths{.low = {.first = 0.1}, .high = {.first = 0.9}};
  std::set<double> drawn;
  for (const uint64_t seed : {0, 1})
    for (const int64_t step : {0, 1, 7})
      for (uint64_t id = 0; id < 50; ++id) {
        const double share = lengths.share(seed, step, id);
        EXPECT_EQ(share, lengths.share(seed, step, id));
        EXPECT_TRUE(share >= 0.1 && share <= 0.9);
        drawn.insert(share);
      }
  EXPECT_EQ(drawn.size(), 300U) << "all are others";
}

TEST(PrefixLengths, LieBetweenBoundsThatAreOrdered) {
  const PrefixLengths lengths{.low = {.first = 0.8}, .high = {.first = 0.2}};
  for (uint64_t id = 0; id < 50; ++id) {
    EXPECT_GE(lengths.share(3, 2, id), 0.2);
    EXPECT_LE(lengths.share(3, 2, id), 0.8);
  }
}

TEST(PrefixLengths, AreWholeTokensAndNeverAllOfThem) {
  PrefixLengths lengths{.low = {.first = 1}, .high = {.first = 1}};
  EXPECT_EQ(lengths.length(0, 0, 0, 10), 9);
  EXPECT_EQ(lengths.length(0, 0, 0, 1), 0) << "nothing is left to write otherwise";
  EXPECT_EQ(lengths.length(0, 0, 0, 0), 0);
  lengths.low.first = lengths.high.first = 0.39;
  EXPECT_EQ(lengths.length(0, 0, 0, 10), 3);
  lengths.min_tokens = 6;
  EXPECT_EQ(lengths.length(0, 0, 0, 10), 6);
  EXPECT_EQ(lengths.length(0, 0, 0, 4), 3);
}

TEST(PrefixLengths, HaveTheMomentsOfTheirBetaDistribution) {
  for (const auto& [alpha, beta] : std::vector<std::pair<double, double>>{{1, 1}, {2, 5}, {0.5, 0.5}, {8, 2}}) {
    PrefixLengths lengths{.low = {.first = 0}, .high = {.first = 1}, .alpha = alpha, .beta = beta};
    double sum = 0, squares = 0;
    constexpr int kDraws = 20000;
    for (uint64_t id = 0; id < kDraws; ++id) {
      const double share = lengths.share(11, 4, id);
      sum += share, squares += share * share;
    }
    const double mean = sum / kDraws, variance = squares / kDraws - mean * mean, whole = alpha + beta;
    EXPECT_NEAR(mean, alpha / whole, 0.01) << alpha << " " << beta;
    EXPECT_NEAR(variance, alpha * beta / (whole * whole * (whole + 1)), 0.004) << alpha << " " << beta;
  }
}

TEST(PrefixLengths, RefuseWhatMakesNoSense) {
  const auto refused = [](const PrefixLengths& lengths) {
    return test::refusal<ConfigError>([&] { lengths.check(); });
  };
  EXPECT_EQ(refused({}), "accepted");
  EXPECT_EQ(refused({.low = {.first = 1.5}}), "low: shares of a demonstration go from 0 to 1");
  EXPECT_EQ(refused({.high = {.last = -0.1}}), "high: shares of a demonstration go from 0 to 1");
  EXPECT_EQ(refused({.low = {.steps = 0}}), "low.steps is 0: use 1 or more");
  EXPECT_EQ(refused({.low = {.warmup_steps = -1}}), "low: warmup_steps and delay_steps are 0 or more");
  test::expect_words(refused({.alpha = 0}), {"alpha and beta are 0 and 1"});
  EXPECT_EQ(refused({.min_tokens = -1}), "min_tokens is -1: use 0 or more");
}

}  // namespace
}  // namespace fpdist::data
