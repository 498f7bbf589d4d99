#include "src/prefix/forest.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <tuple>
#include <vector>

#include "fpdist/core/rng.hpp"
#include "fpdist/data/sample.hpp"
#include "tests/support/random/odd_groups.hpp"

namespace fpdist::prefix {
namespace {

using test::odd_groups;

using Tokens = std::vector<int32_t>;

Forest forest_of(const std::vector<Tokens>& samples, bool share = true) {
  std::vector<TokenSpan> spans(samples.begin(), samples.end());
  return make_forest(spans, share);
}

std::vector<Tokens> random_sequences(uint64_t seed) {
  std::vector<Tokens> samples;
  for (const data::Group& group : odd_groups(seed))
    for (const data::Sample& sample : group.sample) samples.push_back(sample.token);
  return samples;
}

/// Every non-empty prefix and the samples that have it: the forest as a naive reader sees it.
std::map<Tokens, std::vector<size_t>> prefixes_of(const std::vector<Tokens>& samples) {
  std::map<Tokens, std::vector<size_t>> prefixes;
  for (size_t b = 0; b < samples.size(); ++b)
    for (size_t length = 1; length <= samples[b].size(); ++length)
      prefixes[Tokens(samples[b].begin(), samples[b].begin() + static_cast<std::ptrdiff_t>(length))].push_back(b);
  return prefixes;
}

TEST(Forest, SharedTokensAreCountedOnce) {
  const Forest forest = forest_of({{1, 2, 3, 4}, {1, 2, 5}, {1, 2}, {7}});
  EXPECT_EQ(forest.tokens(), 6);
  ASSERT_EQ(forest.node.size(), 4u);
  EXPECT_EQ(forest.last_node, (std::vector<int32_t>{1, 2, 0, 3}));
  EXPECT_EQ(forest.node[2].parent, 0);
  EXPECT_EQ(forest.node[3].parent, -1);
  EXPECT_EQ(forest.visible_pairs(), 1 + 2 + 3 + 4 + 3 + 1);
}

TEST(Forest, NothingGivesNothing) {
  EXPECT_TRUE(forest_of({}).node.empty());
  const Forest empty = forest_of({{}, {}});
  EXPECT_TRUE(empty.node.empty());
  EXPECT_EQ(empty.last_node, (std::vector<int32_t>{-1, -1}));
}

TEST(Forest, TokensAndPairsEqualTheSetOfDistinctPrefixes) {
  for (uint64_t seed = 0; seed < 400; ++seed) {
    SCOPED_TRACE(seed);
    const std::vector<Tokens> samples = random_sequences(seed);
    const auto prefixes = prefixes_of(samples);
    int64_t pairs = 0;
    for (const auto& [prefix, users] : prefixes) pairs += static_cast<int64_t>(prefix.size());
    const Forest forest = forest_of(samples);
    EXPECT_EQ(forest.tokens(), static_cast<int64_t>(prefixes.size()));
    EXPECT_EQ(forest.visible_pairs(), pairs);
  }
}

TEST(Forest, BoundariesLieExactlyWhereTheSetOfSamplesChanges) {
  for (uint64_t seed = 0; seed < 400; ++seed) {
    SCOPED_TRACE(seed);
    const std::vector<Tokens> samples = random_sequences(seed);
    const Forest forest = forest_of(samples);
    const auto prefixes = prefixes_of(samples);
    for (const ForestNode& node : forest.node) {
      const Tokens& tokens = samples[static_cast<size_t>(node.sample)];
      ASSERT_GT(node.length, 0);
      const auto users = [&](int64_t length) {
        return length == 0 ? std::vector<size_t>{} : prefixes.at(Tokens(tokens.begin(), tokens.begin() + length));
      };
      EXPECT_EQ(users(node.depth + node.length).front(), static_cast<size_t>(node.sample));
      for (int64_t t = node.depth + 1; t < node.depth + node.length; ++t) EXPECT_EQ(users(t), users(t + 1));
      if (node.parent >= 0) {
        const ForestNode& parent = forest.node[static_cast<size_t>(node.parent)];
        EXPECT_EQ(parent.depth + parent.length, node.depth);
        EXPECT_NE(users(node.depth), users(node.depth + 1));
      } else {
        EXPECT_EQ(node.depth, 0);
      }
    }
  }
}

TEST(Forest, NodesAreInPreOrderWithChildrenByFirstSample) {
  for (uint64_t seed = 0; seed < 400; ++seed) {
    SCOPED_TRACE(seed);
    const Forest forest = forest_of(random_sequences(seed));
    std::map<int32_t, int32_t> newest_child;
    std::vector<int32_t> path;
    for (size_t n = 0; n < forest.node.size(); ++n) {
      const ForestNode& node = forest.node[n];
      while (!path.empty() && path.back() != node.parent) path.pop_back();
      ASSERT_EQ(path.empty() ? -1 : path.back(), node.parent);  // pre-order: the parent is on the open path
      path.push_back(static_cast<int32_t>(n));
      const auto [it, is_first] = newest_child.try_emplace(node.parent, node.sample);
      EXPECT_TRUE(is_first || it->second < node.sample);
      it->second = node.sample;
    }
  }
}

void expect_same(const Forest& one, const Forest& other) {
  EXPECT_EQ(one.last_node, other.last_node);
  ASSERT_EQ(one.node.size(), other.node.size());
  for (size_t n = 0; n < one.node.size(); ++n) {
    const ForestNode &a = one.node[n], &b = other.node[n];
    ASSERT_EQ(std::tie(a.parent, a.sample, a.depth, a.length), std::tie(b.parent, b.sample, b.depth, b.length)) << n;
  }
}

TEST(Forest, DependsOnItsSamplesAloneHoweverManyThreadsMakeIt) {
  for (uint64_t seed = 0; seed < 400; ++seed) {
    SCOPED_TRACE(seed);
    const std::vector<Tokens> samples = random_sequences(seed);
    const std::vector<TokenSpan> spans(samples.begin(), samples.end());
    const Forest one = make_forest(spans, true, 1);
    for (const int threads : {2, 3, 7}) expect_same(make_forest(spans, true, threads), one);
  }
  Rng rng(11);
  std::vector<Tokens> many(80'000);  // enough for threads that nobody asked for
  for (Tokens& sample : many)
    for (uint64_t length = rng.below(12); length > 0; --length) sample.push_back(static_cast<int32_t>(rng.below(3)));
  const std::vector<TokenSpan> spans(many.begin(), many.end());
  expect_same(make_forest(spans), make_forest(spans, true, 1));
}

TEST(Forest, WithoutSharingEverySampleIsAChain) {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    SCOPED_TRACE(seed);
    const std::vector<Tokens> samples = random_sequences(seed);
    const Forest forest = forest_of(samples, false);
    int64_t tokens = 0;
    for (size_t b = 0; b < samples.size(); ++b) {
      tokens += static_cast<int64_t>(samples[b].size());
      ASSERT_EQ(forest.last_node[b] < 0, samples[b].empty());
      if (samples[b].empty()) continue;
      const ForestNode& node = forest.node[static_cast<size_t>(forest.last_node[b])];
      EXPECT_EQ(node.parent, -1);
      EXPECT_EQ(node.sample, static_cast<int32_t>(b));
      EXPECT_EQ(node.length, static_cast<int64_t>(samples[b].size()));
    }
    EXPECT_EQ(forest.tokens(), tokens);
  }
}

TEST(Forest, PermutingSamplesKeepsTheCounts) {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    SCOPED_TRACE(seed);
    std::vector<Tokens> samples = random_sequences(seed);
    const Forest before = forest_of(samples);
    Rng rng(seed);
    std::shuffle(samples.begin(), samples.end(), rng);
    const Forest after = forest_of(samples);
    EXPECT_EQ(before.tokens(), after.tokens());
    EXPECT_EQ(before.visible_pairs(), after.visible_pairs());
    EXPECT_EQ(before.node.size(), after.node.size());
  }
}

TEST(Forest, WideAndDeepForestsStayLinear) {
  std::vector<Tokens> wide, deep;
  for (int32_t b = 0; b < 50000; ++b) wide.push_back({1, b});
  for (int32_t b = 0; b < 2000; ++b) deep.emplace_back(static_cast<size_t>(b + 1), 7);
  EXPECT_EQ(forest_of(wide).tokens(), 50001);
  std::reverse(deep.begin(), deep.end());  // every later sample splits the first node
  EXPECT_EQ(forest_of(deep).tokens(), 2000);
  EXPECT_EQ(forest_of(deep).node.size(), 2000u);
}

}  // namespace
}  // namespace fpdist::prefix
