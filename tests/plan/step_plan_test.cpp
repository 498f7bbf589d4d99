#include "fpdist/plan/step_plan.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/core/rng.hpp"
#include "fpdist/data/sample.hpp"
#include "fpdist/prefix/tree_layout.hpp"
#include "src/core/index.hpp"
#include "src/plan/costs/unit_cost.hpp"
#include "src/plan/step_tree.hpp"
#include "tests/support/plan/step_groups.hpp"
#include "tests/support/random/odd_groups.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::plan {
namespace {

using test::group_of, test::kCosts, test::replicas;

int64_t pairs_of(const prefix::TreeLayout& layout) {
  int64_t pairs = 0;
  for (const int32_t depth : layout.depth) pairs += depth + 1;
  return pairs;
}

struct Case {
  std::vector<data::Group> groups;
  Atomic atomic;
  int dp;
  PackOptions options;
};

/// Runs `law(case, plan)` over random steps, methods, replica counts and caps.
template <typename Law>
void for_random_plans(Law law) {
  for (uint64_t seed = 0; seed < 400; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    Rng rng(seed, 77);
    const Atomic atomic = rng.below(2) ? Atomic::kLines : Atomic::kSamples;
    Case one{test::odd_groups(seed, atomic == Atomic::kLines), atomic, static_cast<int>(1 + rng.below(9)), {}};
    one.options.share_prefix = rng.below(3) > 0;
    one.options.max_tokens =
        static_cast<int64_t>((atomic == Atomic::kLines ? 54 : 27) + rng.below(30));  // just above what fits
    law(one, make_step_plan(one.groups, atomic, replicas(one.dp), kCosts, one.options));
    if (::testing::Test::HasFatalFailure()) return;
  }
}

TEST(StepPlan, EverySampleIsInExactlyOnePackAndPairsStayTogether) {
  for_random_plans([](const Case& one, const StepPlan& plan) {
    ASSERT_EQ(plan.replica.size(), index(one.dp));
    std::multiset<std::pair<int32_t, int32_t>> seen, wanted;
    for (size_t g = 0; g < one.groups.size(); ++g)
      for (size_t s = 0; s < one.groups[g].sample.size(); ++s)
        wanted.emplace(static_cast<int32_t>(g), static_cast<int32_t>(s));
    for (const auto& packs : plan.replica) {
      for (const PackPlan& pack : packs) {
        std::map<int32_t, size_t> members_of_group;
        for (const MemberRef& ref : pack.member) seen.emplace(ref.group, ref.index), ++members_of_group[ref.group];
        EXPECT_TRUE(std::is_sorted(pack.member.begin(), pack.member.end(), [](const MemberRef& a, const MemberRef& b) {
          return std::pair(a.group, a.index) < std::pair(b.group, b.index);
        }));
        for (const auto& [group, members] : members_of_group) {
          EXPECT_TRUE(one.atomic != Atomic::kLines || members == 2) << "group " << group << " was torn apart";
        }
      }
    }
    EXPECT_EQ(seen, wanted);
  });
}

TEST(StepPlan, PacksAreWhatTheirLayoutsAreAndKeepTheCap) {
  for_random_plans([](const Case& one, const StepPlan& plan) {
    int64_t rows = 0, all_rows = 0;
    for (const auto& packs : plan.replica)
      for (const PackPlan& pack : packs) all_rows += pack.rows;
    for (const auto& packs : plan.replica) {
      for (const PackPlan& pack : packs) {
        const prefix::TreeLayout layout = lay_out(one.groups, pack, one.options.share_prefix);
        ASSERT_EQ(pack.rows, layout.rows());
        ASSERT_EQ(pack.edges, layout.edges());
        ASSERT_EQ(pack.pairs, pairs_of(layout));
        ASSERT_EQ(pack.cost, forward_cost(kCosts).cost(pack.rows, pack.pairs, pack.scores));
        ASSERT_GE(pack.scores, layout.scores());
        ASSERT_LE(pack.scores, pack.edges);
        EXPECT_LE(pack.rows, one.options.max_tokens);
        EXPECT_TRUE(pack.rows > 0 || all_rows == 0) << "a pack without rows";
        rows += pack.rows;
      }
    }
    EXPECT_EQ(plan.totals.tokens_computed, rows);
  });
}

TEST(StepPlan, AScoreThatSamplesShareIsPaidForOnce) {
  // Two rollouts that share a supervised turn of 20 tokens behind a prompt of 10, then go on alone, and a third that is
  // the first one over again.
  data::Group group;
  for (const int32_t tail : {1, 2, 1}) {
    data::Sample sample;
    sample.token.assign(30, 7);
    sample.token.insert(sample.token.end(), 5, tail);
    sample.target = sample.token;
    std::fill(sample.target.begin(), sample.target.begin() + 10, data::kIgnore);
    group.sample.push_back(sample);
  }
  std::vector<data::Group> groups{group};
  const auto pack = [&] { return make_step_plan(groups, Atomic::kSamples, replicas(1), kCosts, {}).replica[0].at(0); };
  EXPECT_EQ(pack().edges, 3 * 25);
  EXPECT_EQ(pack().scores, 20 + 2 * 5);
  EXPECT_EQ(pack().scores, lay_out(groups, pack(), true).scores());
  EXPECT_EQ(pack().cost, forward_cost(kCosts).cost(40, pack().pairs, 30));
  // One that does not learn from the shared turn: those who do are counted apart there, never too few.
  std::fill(groups[0].sample[1].target.begin(), groups[0].sample[1].target.begin() + 30, data::kIgnore);
  EXPECT_EQ(pack().edges, 2 * 25 + 5);
  EXPECT_EQ(pack().scores, 2 * 20 + 2 * 5);
  EXPECT_GE(pack().scores, lay_out(groups, pack(), true).scores());
}

TEST(StepPlan, TotalsAreCountedOverTheStep) {
  for_random_plans([](const Case& one, const StepPlan& plan) {
    StepTotals wanted;
    for (const data::Group& group : one.groups) {
      ++wanted.groups;
      for (const data::Sample& sample : group.sample) {
        const int64_t edges = count_edges(sample);
        wanted.edges += edges;
        wanted.samples_with_edges += edges > 0;
        wanted.tokens_logical += sample.length();
        ++wanted.samples;
      }
    }
    EXPECT_EQ(plan.totals.groups, wanted.groups);
    EXPECT_EQ(plan.totals.samples, wanted.samples);
    EXPECT_EQ(plan.totals.edges, wanted.edges);
    EXPECT_EQ(plan.totals.samples_with_edges, wanted.samples_with_edges);
    EXPECT_EQ(plan.totals.tokens_logical, wanted.tokens_logical);
    EXPECT_TRUE(one.options.share_prefix || plan.totals.tokens_computed == wanted.tokens_logical);
  });
}

TEST(StepPlan, TheSameStepHasTheSameHash) {
  for_random_plans([](const Case& one, const StepPlan& plan) {
    EXPECT_EQ(make_step_plan(one.groups, one.atomic, replicas(one.dp), kCosts, one.options).hash, plan.hash);
  });
}

TEST(StepPlan, TheHashSeesATokenThatChangesTheShape) {
  std::vector<data::Group> groups{group_of(0, {5, 5}, 10), group_of(1, {5, 5}, 10)};
  const uint64_t before = make_step_plan(groups, Atomic::kLines, replicas(2), kCosts, {}).hash;
  groups[1].sample[1].token[3] = 99;
  EXPECT_NE(make_step_plan(groups, Atomic::kLines, replicas(2), kCosts, {}).hash, before);
}

TEST(StepPlan, AGroupThatFitsNowhereNamesItselfAndTheCure) {
  const std::vector<data::Group> groups{group_of(41, {10, 10}, 5), group_of(42, {80, 30}, 20)};
  PackOptions options;
  options.max_tokens = 100;
  const auto refused = [&](Atomic atomic) {
    return test::error_of<ConfigError>([&] { make_step_plan(groups, atomic, replicas(2), kCosts, options); });
  };
  test::expect_words(refused(Atomic::kLines), {"group 42", "set pack.max_tokens to at least 130"});
  EXPECT_NO_THROW(make_step_plan(groups, Atomic::kSamples, replicas(2), kCosts, options))
      << "rollouts may be torn apart";
  options.max_tokens = 99;
  test::expect_words(refused(Atomic::kSamples), {"at least 100"});
  options.max_tokens = 0;
  EXPECT_THROW(make_step_plan(groups, Atomic::kSamples, replicas(2), kCosts, options), ConfigError);
  EXPECT_THROW(make_step_plan(groups, Atomic::kSamples, replicas(-1), kCosts, {}), ConfigError);
}

}  // namespace
}  // namespace fpdist::plan
