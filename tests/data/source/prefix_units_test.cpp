#include "src/data/source/prefix_units.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <numeric>
#include <set>
#include <vector>

#include "fpdist/core/rng.hpp"
#include "fpdist/data/loader.hpp"

namespace fpdist::data {
namespace {

using Ids = std::vector<int64_t>;
using Tokens = std::vector<int32_t>;

std::vector<Group> groups_of(const std::vector<Tokens>& sequences) {
  std::vector<Group> groups;
  for (const Tokens& one : sequences) {
    Group& group = groups.emplace_back();
    group.id = static_cast<int64_t>(groups.size()) - 1;
    group.sample.emplace_back();
    group.sample[0].token = group.sample[0].target = one;
  }
  return groups;
}

/// `prompts` prompts of `prompt` tokens, each with `answers` rows, behind `system` tokens that all share; shuffled.
std::vector<Group> rows_of_prompts(int prompts, int answers, int system, int prompt, uint64_t seed) {
  Rng rng(seed);
  std::vector<Tokens> rows;
  for (int p = 0; p < prompts; ++p) {
    Tokens begin(static_cast<size_t>(system), 7);
    for (int t = 0; t < prompt; ++t) begin.push_back(static_cast<int32_t>(1000 + 50 * p + rng.below(50)));
    for (int a = 0; a < answers; ++a) {
      rows.push_back(begin);
      for (int t = 0; t < 5; ++t) rows.back().push_back(static_cast<int32_t>(rng.below(500)));
    }
  }
  for (size_t i = rows.size(); i > 1; --i) std::swap(rows[i - 1], rows[rng.below(i)]);
  return groups_of(rows);
}

Dataset dataset_of(const std::vector<Group>& groups) {
  Dataset dataset;
  dataset.group = groups;
  return dataset;
}

Ids all_of(const std::vector<LoadUnit>& units) {
  Ids all;
  for (const LoadUnit& unit : units) all.insert(all.end(), unit.group.begin(), unit.group.end());
  std::sort(all.begin(), all.end());
  return all;
}

/// Tokens that a trie of the groups' samples holds, counted token by token.
double shared_by_trie(const std::vector<Group>& groups, const Ids& ids) {
  std::set<Tokens> nodes;
  double logical = 0;
  for (const int64_t id : ids) {
    Tokens path;
    for (const int32_t token : groups[static_cast<size_t>(id)].sample[0].token)
      path.push_back(token), nodes.insert(path);
    logical += static_cast<double>(path.size());
  }
  return logical / static_cast<double>(nodes.size());
}

Ids iota(size_t count) {
  Ids all(count);
  std::iota(all.begin(), all.end(), 0);
  return all;
}

TEST(PrefixUnits, GroupsThatBeginAlikeAreOneAndOthersAlone) {
  const auto groups = groups_of({{1, 2, 3, 4}, {9}, {1, 2, 3, 5}, {1, 2}, {}, {1, 2, 3}, {8, 8}});
  std::set<Ids> found;
  for (const LoadUnit& unit : prefix_units(dataset_of(groups), 3, 10)) found.insert(unit.group);
  EXPECT_EQ(found, (std::set<Ids>{{4}, {3}, {5, 0, 2}, {6}, {1}}));
}

TEST(PrefixUnits, EveryGroupIsInOneUnitAndNoneIsTooLarge) {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(seed);
    Rng rng(seed);
    std::vector<Tokens> sequences(1 + rng.below(80));
    for (Tokens& one : sequences)
      for (uint64_t t = rng.below(12); t > 0; --t) one.push_back(static_cast<int32_t>(rng.below(2)));
    const auto most = static_cast<int64_t>(1 + rng.below(9));
    const auto units = prefix_units(dataset_of(groups_of(sequences)), static_cast<int64_t>(1 + rng.below(4)), most);
    EXPECT_EQ(all_of(units), iota(sequences.size()));
    for (const LoadUnit& unit : units) EXPECT_LE(std::ssize(unit.group), most);
  }
}

TEST(PrefixUnits, ALargeClusterIsCutBetweenItsPromptsNotInsideThem) {
  const auto groups = rows_of_prompts(/*prompts=*/20, /*answers=*/4, /*system=*/30, /*prompt=*/10, 1);
  for (const LoadUnit& unit : prefix_units(dataset_of(groups), 16, 8)) {
    EXPECT_EQ(unit.cluster, 0);
    EXPECT_EQ(unit.group.size() % 4, 0U) << "a prompt was cut";
  }
}

TEST(PrefixUnits, SharingIsThatOfATrie) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Rng rng(seed);
    std::vector<Tokens> sequences(1 + rng.below(30));
    for (Tokens& one : sequences)
      for (uint64_t t = 1 + rng.below(9); t > 0; --t) one.push_back(static_cast<int32_t>(rng.below(3)));
    const auto groups = groups_of(sequences);
    EXPECT_DOUBLE_EQ(sharing_of(groups), shared_by_trie(groups, iota(groups.size()))) << seed;
  }
}

Loader loader_of(const std::vector<Group>& groups, int64_t groups_per_step, Batching batching) {
  Dataset dataset;
  dataset.group = groups;
  DataOptions options;
  options.batching = batching;
  options.min_shared_tokens = 8;
  return make_loader(dataset, options, groups_per_step, 3);
}

TEST(PrefixBatching, AStepSharesNearlyWhatWholePromptsWould) {
  const auto groups = rows_of_prompts(/*prompts=*/200, /*answers=*/4, /*system=*/0, /*prompt=*/60, 2);
  const double whole = 4.0 * 65 / (60 + 4 * 5);
  const auto mean = [&](const Loader& loader) {
    double sum = 0;
    for (int64_t step = 0; step < loader.steps_per_epoch(); ++step)
      sum += sharing_of(pick_groups(dataset_of(groups), loader.step(step)));
    return sum / static_cast<double>(loader.steps_per_epoch());
  };
  EXPECT_GT(mean(loader_of(groups, 32, Batching::kPrefix)), 0.95 * whole);
  EXPECT_LT(mean(loader_of(groups, 32, Batching::kShuffle)), 1.2);
}

TEST(PrefixBatching, AnEpochHoldsEachGroupOnceAndEpochsDiffer) {
  const auto groups = rows_of_prompts(30, 3, 12, 9, 4);
  for (const int64_t per_step : {7, 16, 90, 200}) {
    const Loader loader = loader_of(groups, per_step, Batching::kPrefix),
                 again = loader_of(groups, per_step, Batching::kPrefix);
    Ids before;
    for (int64_t epoch = 0; epoch < 3; ++epoch) {
      Ids all;
      for (int64_t step = 0; step < loader.steps_per_epoch(); ++step) {
        const Ids ids = loader.step(epoch * loader.steps_per_epoch() + step);
        EXPECT_LE(std::ssize(ids), per_step);
        all.insert(all.end(), ids.begin(), ids.end());
        EXPECT_EQ(again.step(epoch * loader.steps_per_epoch() + step), ids);
      }
      EXPECT_TRUE(all != before || per_step > 50) << "few units have few orders";
      before = all;
      std::sort(all.begin(), all.end());
      EXPECT_EQ(all, iota(groups.size()));
    }
  }
}

TEST(PrefixBatching, AClusterThatIsTooLargeIsSpreadEvenly) {
  auto groups = rows_of_prompts(/*prompts=*/8, /*answers=*/8, /*system=*/20, /*prompt=*/12, 5);  // 64 of one cluster
  for (Group& alone : rows_of_prompts(192, 1, 0, 20, 6)) {
    alone.sample[0].token.insert(alone.sample[0].token.begin(), static_cast<int32_t>(5000 + groups.size()));
    groups.push_back(alone);
  }
  const Loader loader = loader_of(groups, 32, Batching::kPrefix);
  ASSERT_EQ(loader.steps_per_epoch(), 8);
  for (int64_t step = 0; step < 8; ++step) {
    const Ids ids = loader.step(step);
    EXPECT_EQ(std::count_if(ids.begin(), ids.end(), [](int64_t id) { return id < 64; }), 8) << step;
  }
}

TEST(PrefixBatching, UnitsOfPairsFollowEachOther) {
  Dataset dataset;
  dataset.group = groups_of(std::vector<Tokens>(12, Tokens{1}));
  dataset.unit = {0, 1, 0, 3, 1, 0, 6, 3, 8, 9, 9, 8};
  const Loader loader = make_loader(dataset, {}, 12, 0);
  const Ids all = loader.step(0);
  std::map<int64_t, std::vector<size_t>> places;
  for (size_t at = 0; at < all.size(); ++at) places[dataset.unit[static_cast<size_t>(all[at])]].push_back(at);
  for (const auto& [unit, at] : places) EXPECT_EQ(at.back() - at.front(), at.size() - 1) << unit;
  EXPECT_NE(all, loader.step(1));
}

}  // namespace
}  // namespace fpdist::data
