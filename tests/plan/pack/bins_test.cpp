#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <set>
#include <utility>
#include <vector>

#include "fpdist/core/rng.hpp"
#include "src/core/index.hpp"
#include "src/plan/pack/bundle.hpp"
#include "src/plan/pack/deal.hpp"
#include "src/plan/pack/ranking.hpp"
#include "tests/support/random/random_lengths.hpp"

namespace fpdist::plan {
namespace {

TEST(Ranking, AnswersAsALookAtEverythingDoes) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    Rng rng(seed, 21);
    const size_t entries = 1 + rng.below(20);
    Ranking ranking(entries);
    std::vector<std::pair<int64_t, int64_t>> all(entries);  // value, rows
    for (int change = 0; change < 60; ++change) {
      const size_t entry = rng.below(entries);
      all[entry] = {static_cast<int64_t>(rng.below(9)) - 4, static_cast<int64_t>(rng.below(9))};
      ranking.set(entry, all[entry].first, all[entry].second);
      const auto most_rows = static_cast<int64_t>(rng.below(9));
      size_t highest = 0, lowest = 0, within = Ranking::kNone, first = Ranking::kNone;
      for (size_t i = 0; i < entries; ++i) {
        if (all[i].first > all[highest].first) highest = i;
        if (all[i].first < all[lowest].first) lowest = i;
        if (all[i].second > most_rows) continue;
        if (first == Ranking::kNone) first = i;
        if (within == Ranking::kNone || all[i].first > all[within].first) within = i;
      }
      ASSERT_EQ(ranking.highest(), highest);
      ASSERT_EQ(ranking.lowest(), lowest);
      ASSERT_EQ(ranking.highest_within(most_rows), within);
      ASSERT_EQ(ranking.first_within(most_rows), first);
    }
  }
}

/// Bins that look at every bin for every bundle, and at every node of the tree.
class PlainBins {
 public:
  PlainBins(const LengthTree& tree, size_t bins, int64_t target, int64_t most_rows)
      : tree_(tree), target_(target), most_rows_(most_rows), samples_(bins) {}

  bool place(const Bundle& bundle, bool first_fit) {
    size_t best = samples_.size();
    int64_t most_left = std::numeric_limits<int64_t>::min();
    for (size_t bin = 0; bin < samples_.size() && (best == samples_.size() || !first_fit); ++bin) {
      const Weight with = weight(bin, &bundle);
      const int64_t left = first_fit ? 0 : target_ - with.cost;
      if (with.rows <= most_rows_ && left > most_left) best = bin, most_left = left;
    }
    if (best == samples_.size()) return false;
    samples_[best].insert(bundle.sample.begin(), bundle.sample.end());
    return true;
  }
  Weight weight(size_t bin, const Bundle* more = nullptr) const {
    std::set<int32_t> samples = samples_[bin], nodes;
    if (more) samples.insert(more->sample.begin(), more->sample.end());
    Weight sum;
    for (const int32_t s : samples) {
      sum += {0, total_work({}, {0, 0, tree_.sample[index(s)].edges})};
      for (int32_t n = tree_.sample[index(s)].node; n >= 0; n = tree_.node[index(n)].parent)
        if (nodes.insert(n).second) sum += {tree_.node[index(n)].rows, total_work({}, tree_.node[index(n)].work())};
    }
    return sum;
  }
  std::vector<int32_t> samples(size_t bin) const { return {samples_[bin].begin(), samples_[bin].end()}; }

 private:
  const LengthTree& tree_;
  int64_t target_, most_rows_;
  std::vector<std::set<int32_t>> samples_;
};

TEST(Bins, PutBundlesWhereALookAtEveryBinDoes) {
  for (uint64_t seed = 0; seed < 120; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    Rng rng(seed, 22);
    const LengthTree tree = test::random_lengths(rng, 6, 900);
    std::vector<int32_t> some;
    for (const int32_t s : all_samples(tree))
      if (rng.below(4) > 0) some.push_back(s);
    const StageCosts costs;
    Scope scope(tree, costs, some);
    std::vector<Bundle> bundles;
    for (size_t s = 0; s < some.size(); s += 2)
      bundles.push_back(scope.bundle(s + 1 < some.size() ? std::vector{some[s], some[s + 1]} : std::vector{some[s]}));
    const OwnNumbers own(scope, bundles);
    const size_t count = 1 + rng.below(9);
    const auto most_rows = static_cast<int64_t>(500 + rng.below(20000));
    for (const bool first_fit : {false, true}) {
      Bins bins(own.shared, std::vector<int64_t>(count, 1000), most_rows);
      PlainBins plain(tree, count, 1000, most_rows);
      std::vector<const Bundle*> order = own.pointers();
      std::sort(order.begin(), order.end(), [&](const Bundle* a, const Bundle* b) {
        const auto key = [&](const Bundle& one) {
          return std::pair(first_fit ? -one.alone.rows : -one.alone.cost, one.sample[0]);
        };
        return key(*a) < key(*b);
      });
      bool fits = true;
      for (const Bundle* bundle : order) fits = fits && plain.place(*bundle, first_fit);
      ASSERT_EQ(first_fit ? bins.fill_by_rows(own.pointers()) : bins.fill(own.pointers()), fits);
      for (size_t bin = 0; bin < count; ++bin) {
        ASSERT_EQ(bins.samples(bin), plain.samples(bin));
        ASSERT_EQ(bins.load()[bin].cost, plain.weight(bin).cost);
        ASSERT_EQ(bins.load()[bin].rows, plain.weight(bin).rows);
      }
    }
  }
}

TEST(Splits, AreAsFewAsFit) {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    Rng rng(seed, 23);
    const LengthTree tree = test::random_lengths(rng, 3, 900);
    const std::vector<int32_t> all = all_samples(tree);
    const StageCosts costs;
    Scope scope(tree, costs, all);
    std::vector<std::vector<int32_t>> atoms;
    for (const int32_t s : all) atoms.push_back({s});
    Splits splits(atoms);
    const Weight most{static_cast<int64_t>(200 + rng.below(3000)), std::numeric_limits<int64_t>::max()};
    const std::vector<Bundle>& found = splits.within(scope, most);
    size_t fewest = 1;
    const auto fits = [&](const Bundle& one) { return one.alone.rows <= most.rows; };
    while (fewest < atoms.size() && !std::ranges::all_of(splits.into(scope, fewest), fits)) ++fewest;
    EXPECT_EQ(&found, &splits.into(scope, fewest));
    std::vector<int32_t> together;
    for (const Bundle& one : found) together.insert(together.end(), one.sample.begin(), one.sample.end());
    std::sort(together.begin(), together.end());
    EXPECT_EQ(together, all);
  }
}

}  // namespace
}  // namespace fpdist::plan
