#include <gtest/gtest.h>

#include <cmath>
#include <initializer_list>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/loss/loss.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::loss {
namespace {

std::vector<data::Group> groups_of(const std::vector<std::vector<double>>& rewards) {
  std::vector<data::Group> groups;
  for (const std::vector<double>& own : rewards) {
    data::Group& group = groups.emplace_back();
    group.id = static_cast<int64_t>(groups.size()) - 1;
    for (const double reward : own) {
      data::Sample sample;
      sample.reward = reward;
      group.sample.push_back(sample);
    }
  }
  return groups;
}

TEST(Advantages, AreRewardsStandardisedWithinTheGroup) {
  std::vector<data::Group> groups = groups_of({{1, 0, 0}, {2, 2}, {5}});
  const auto metrics = fill_advantages(groups, {});
  const double std = std::sqrt(1.0 / 3.0);  // of (1, 0, 0) with n - 1
  EXPECT_DOUBLE_EQ(*groups[0].sample[0].advantage, (2.0 / 3.0) / (std + 1e-4));
  EXPECT_DOUBLE_EQ(*groups[0].sample[1].advantage, (-1.0 / 3.0) / (std + 1e-4));
  EXPECT_EQ(*groups[1].sample[0].advantage, 0.0);
  EXPECT_EQ(*groups[2].sample[0].advantage, 0.0) << "a group of one";
  EXPECT_DOUBLE_EQ(metrics.at("reward"), 10.0 / 6.0);
  EXPECT_DOUBLE_EQ(metrics.at("frac_reward_zero_std"), 0.5) << "three of six samples";
  double squares = 0;
  for (const double reward : {1.0, 0.0, 0.0, 2.0, 2.0, 5.0}) squares += std::pow(reward - 10.0 / 6.0, 2);
  EXPECT_DOUBLE_EQ(metrics.at("reward_std"), std::sqrt(squares / 5));
}

TEST(Advantages, MayBeScaledByTheWholeStepOrNotAtAll) {
  std::vector<data::Group> by_step = groups_of({{1, 0}, {4, 4}}), unscaled = by_step;
  const auto metrics = fill_advantages(by_step, {.scale_rewards = "batch"});
  EXPECT_DOUBLE_EQ(*by_step[0].sample[0].advantage, 0.5 / (metrics.at("reward_std") + 1e-4));
  EXPECT_EQ(metrics.at("frac_reward_zero_std"), 0.0) << "the step's deviation decides";
  EXPECT_EQ(fill_advantages(unscaled, {.scale_rewards = "none"}).at("frac_reward_zero_std"), 0.5);
  EXPECT_DOUBLE_EQ(*unscaled[0].sample[0].advantage, 0.5);
}

TEST(Advantages, ThatWereGivenStay) {
  std::vector<data::Group> groups = groups_of({{1, 0}});
  groups[0].sample[0].advantage = 7.0;
  EXPECT_EQ(fill_advantages(groups, {}).size(), 3U);
  EXPECT_EQ(*groups[0].sample[0].advantage, 7.0);
  EXPECT_LT(*groups[0].sample[1].advantage, 0.0);

  std::vector<data::Group> given(1);
  given[0].sample.resize(1);
  given[0].sample[0].advantage = 3.0;
  EXPECT_TRUE(fill_advantages(given, {}).empty());
  EXPECT_EQ(*given[0].sample[0].advantage, 3.0);
  EXPECT_TRUE(fill_advantages({}, {}).empty());
}

TEST(Advantages, DoNotCountSamplesWithoutAReward) {
  std::vector<data::Group> groups = groups_of({{3, 1, 100}});
  groups[0].sample[2].reward.reset();
  EXPECT_EQ(fill_advantages(groups, {.scale_rewards = "none"}).at("reward"), 2.0);
  EXPECT_EQ(*groups[0].sample[0].advantage, 1.0);
  EXPECT_FALSE(groups[0].sample[2].advantage.has_value());
}

TEST(Advantages, RefuseRewardsThatAreNotFinite) {
  std::vector<data::Group> groups = groups_of({{1}, {0, NAN}});
  EXPECT_EQ(test::error_of<DataError>([&] { fill_advantages(groups, {}); }),
            "group 1 has a reward of nan: rewards must be finite");
}

}  // namespace
}  // namespace fpdist::loss
