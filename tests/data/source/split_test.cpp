#include "src/data/source/split.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/core/rng.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::data {
namespace {

/// Groups of one sample: prompt {p, p, p} and an answer that is the group's number.
Dataset dataset_of(const std::vector<int32_t>& prompts) {
  Dataset dataset;
  dataset.file = {"a.jsonl"};
  for (size_t i = 0; i < prompts.size(); ++i) {
    Sample sample;
    sample.token = {prompts[i], prompts[i], prompts[i], static_cast<int32_t>(i)};
    sample.target = {kIgnore, kIgnore, kIgnore, static_cast<int32_t>(i)};
    sample.prompt_length = i % 2 ? 3 : 0;  // rows of input_ids and labels say it by their labels
    Group& group = dataset.group.emplace_back();
    group.id = static_cast<int64_t>(i), group.sample = {sample};
    dataset.place.push_back({.file = 0, .line = static_cast<int64_t>(i) + 1});
  }
  return dataset;
}

class Elsewhere final : public GroupSource {
 public:
  explicit Elsewhere(std::vector<Group> groups) : groups_(std::move(groups)) {}
  Group group(int64_t id) const override { return groups_.at(static_cast<size_t>(id)); }

 private:
  std::vector<Group> groups_;
};

std::vector<int32_t> answers(const Dataset& dataset) {
  std::vector<int32_t> all;
  for (int64_t id = 0; id < dataset.size(); ++id) {
    const Group group = dataset.get(id);
    EXPECT_EQ(group.id, id);
    EXPECT_EQ(dataset.where(static_cast<size_t>(id)), "a.jsonl:" + std::to_string(group.sample[0].token[3] + 1));
    all.push_back(group.sample[0].token[3]);
  }
  EXPECT_TRUE(std::is_sorted(all.begin(), all.end())) << "the data's order";
  return all;
}

TEST(Split, PromptsStayOnOneSideAndTheShareIsWhatWasAskedFor) {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    Rng rng(seed, 1);
    std::vector<int32_t> prompts(50 + rng.below(100));
    for (int32_t& prompt : prompts) prompt = static_cast<int32_t>(rng.below(40));
    const double fraction = 0.05 + 0.4 * rng.uniform();
    const SplitDataset parts = split_dataset(dataset_of(prompts), fraction, seed);
    const std::vector<int32_t> train = answers(parts.train), eval = answers(parts.eval);
    EXPECT_EQ(train.size() + eval.size(), prompts.size());
    std::set<int32_t> trained;
    for (const int32_t group : train) trained.insert(prompts[static_cast<size_t>(group)]);
    for (const int32_t group : eval) EXPECT_FALSE(trained.contains(prompts[static_cast<size_t>(group)])) << group;
    EXPECT_NEAR(static_cast<double>(eval.size()), fraction * static_cast<double>(prompts.size()), 2.0);
  }
}

TEST(Split, IsAFunctionOfDataAndSeedWhereverTheGroupsAre) {
  std::vector<int32_t> prompts(60);
  for (size_t i = 0; i < prompts.size(); ++i) prompts[i] = static_cast<int32_t>(i / 3);
  const auto drawn = [&](uint64_t seed) { return answers(split_dataset(dataset_of(prompts), 0.2, seed).eval); };
  EXPECT_EQ(drawn(1), drawn(1));
  EXPECT_NE(drawn(1), drawn(2));
  Dataset elsewhere = dataset_of(prompts);
  elsewhere.source = std::make_shared<Elsewhere>(std::move(elsewhere.group));
  elsewhere.group.clear();
  const SplitDataset parts = split_dataset(elsewhere, 0.2, 1);
  EXPECT_EQ(answers(parts.eval), drawn(1));
  EXPECT_EQ(parts.train.size(), 48);
}

class Mapped final : public GroupSource {
 public:
  Group group(int64_t) const override { throw std::logic_error("nobody may copy one"); }
  std::optional<std::string_view> first_tokens(int64_t id) const override { return names_.at(static_cast<size_t>(id)); }

 private:
  std::vector<std::string> names_{"zero", "one", "two", "three"};
};

TEST(Split, FirstTokensComeFromWhereGroupsLie) {
  Dataset dataset = dataset_of({5, 6, 7, 8});
  for (int64_t unit = 0; unit < 4; ++unit) dataset.unit.push_back(unit);
  dataset.source = std::make_shared<Mapped>(), dataset.group.clear();
  const SplitDataset parts = split_dataset(dataset, 0.25, 3);
  std::set<std::string_view> all;
  for (const Dataset* part : {&parts.train, &parts.eval})
    for (int64_t id = 0; id < part->size(); ++id) all.insert(part->source->first_tokens(id).value());
  EXPECT_EQ(all, (std::set<std::string_view>{"zero", "one", "two", "three"}));
}

TEST(Split, GroupsOfAUnitStayTogether) {
  std::vector<int32_t> prompts(30);
  for (size_t i = 0; i < prompts.size(); ++i) prompts[i] = static_cast<int32_t>(i);
  Dataset dataset = dataset_of(prompts);
  for (size_t i = 0; i < prompts.size(); ++i) dataset.unit.push_back(static_cast<int64_t>(i % 10));
  const SplitDataset parts = split_dataset(dataset, 0.3, 7);
  EXPECT_EQ(parts.eval.size(), 9);
  std::map<int64_t, int> times;
  for (const int64_t unit : parts.eval.unit) ++times[unit];
  for (const auto& [unit, count] : times) EXPECT_EQ(count, 3) << unit;
}

TEST(Split, NeitherSideIsEmpty) {
  const SplitDataset least = split_dataset(dataset_of({1, 2, 3, 4, 5}), 0.01, 1);
  EXPECT_EQ(least.eval.size(), 1);
  const SplitDataset heavy = split_dataset(dataset_of({1, 1, 1, 1, 1, 2, 2, 2}), 0.1, 1);
  EXPECT_EQ(heavy.eval.size(), 3) << "the prompt with the fewest groups";
  test::expect_words(test::error_of<ConfigError>([] {
                       split_dataset(dataset_of({4, 4, 4}), 0.5, 1);
                     }),
                     {"data.eval_fraction is 0.5: all 3 groups of data.path have one prompt", "data.eval_path"});
}

TEST(Split, TextThatIsLearnedFromItsSecondTokenHasNoPrompt) {
  Dataset dataset = dataset_of(std::vector<int32_t>(20, 3));
  for (Group& group : dataset.group) group.sample[0].target = group.sample[0].token, group.sample[0].prompt_length = 0;
  EXPECT_EQ(split_dataset(dataset, 0.25, 3).eval.size(), 5);
}

}  // namespace
}  // namespace fpdist::data
