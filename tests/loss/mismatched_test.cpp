#include <gtest/gtest.h>

#include <vector>

#include "fpdist/loss/loss.hpp"

namespace fpdist::loss {
namespace {

using Ids = std::vector<int32_t>;

data::Sample sample(const Ids& prompt, const Ids& completion) {
  data::Sample made;
  made.token = prompt, made.target.assign(prompt.size(), data::kIgnore);
  made.prompt_length = static_cast<int32_t>(prompt.size());
  for (const int32_t id : completion) made.token.push_back(id), made.target.push_back(id);
  return made;
}

TEST(Mismatched, EveryPromptHasTheCompletionOfTheSampleBeforeIt) {
  std::vector<data::Group> groups(2);
  groups[0].sample = {sample({1}, {11, 12}), sample({2, 2}, {21})};
  groups[1].sample = {sample({3, 3, 3}, {31, 32, 33})};
  groups[0].sample[0].target[2] = data::kIgnore;  // a tool's output
  const std::vector<data::Group> made = mismatched(groups, 5);
  ASSERT_EQ(made.size(), 3U);
  EXPECT_EQ(made[0].sample.at(0).token, (Ids{1, 31, 32, 33}));
  EXPECT_EQ(made[1].sample.at(0).token, (Ids{2, 2, 11, 12}));
  EXPECT_EQ(made[1].sample[0].target, (Ids{-100, -100, 11, -100}));
  EXPECT_EQ(made[2].sample.at(0).token, (Ids{3, 3, 3, 21}));
  EXPECT_EQ(made[2].id, 2);
  const std::vector<data::Group> cut = mismatched(groups, 2);
  EXPECT_EQ(cut[0].sample.at(0).token, (Ids{1, 31}));
  EXPECT_EQ(cut[2].sample.at(0).token, (Ids{3, 3}));
  EXPECT_EQ(cut[2].sample[0].prompt_length, 2);
}

TEST(Mismatched, AloneAPromptHasItsOwnCompletion) {
  std::vector<data::Group> groups(1);
  groups[0].sample = {sample({1}, {2})};
  EXPECT_EQ(mismatched(groups, 9).at(0).sample.at(0).token, (Ids{1, 2}));
  EXPECT_TRUE(mismatched({}, 9).empty());
}

}  // namespace
}  // namespace fpdist::loss
