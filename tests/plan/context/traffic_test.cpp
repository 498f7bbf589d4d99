// The predicted traffic, against a count of every element that every rank hands to every other.

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/core/index.hpp"
#include "src/plan/context/context_plan.hpp"
#include "tests/plan/context/context_cases.hpp"
#include "tests/support/plan/context_trees.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::plan {
namespace {

using test::ContextCase, test::for_random_plans, test::star;

/// Elements from each rank to each other: [from][to].
using Matrix = std::vector<std::vector<int64_t>>;

struct Counted {
  Matrix keys, gradients, forward_heads, backward_heads;
};

int64_t rows_in(const std::vector<RowRange>& ranges) {
  int64_t rows = 0;
  for (const RowRange& range : ranges) rows += range.size();
  return rows;
}

size_t owner_of(const CpPlan& plan, int32_t row) {
  for (size_t g = 0; g < plan.team_rows.size(); ++g)
    for (const RowRange& range : plan.team_rows[g])
      if (range.begin <= row && row < range.end) return g;
  ADD_FAILURE() << "nobody owns row " << row;
  return 0;
}

Counted count_elements(const CpPlan& plan, const CpHeads& heads) {
  const size_t ranks = index(plan.ranks), members = index(plan.ulysses);
  const Matrix none(ranks, std::vector<int64_t>(ranks));
  Counted counted{none, none, none, none};
  const int64_t query = heads.query / plan.ulysses * heads.dim, key = heads.key / plan.ulysses * heads.dim;
  for (size_t g = 0; g < plan.team_rows.size(); ++g) {
    for (size_t m = 0; m < members; ++m) {
      const size_t me = g * members + m;
      // Ranks of different teams that hold the same heads have the same member number.
      for (const CpRound& round : plan.round[g]) {
        for (const KeyMessage& message : round.send)
          counted.keys[me][index(message.peer) * members + m] += rows_in(message.rows) * 2 * key;
        for (const KeyMessage& message : round.receive)
          for (const RowRange& range : message.rows)
            for (int32_t row = range.begin; row < range.end; ++row)
              counted.gradients[me][owner_of(plan, row) * members + m] += 2 * key;
      }
      for (size_t n = 0; n < members; ++n) {
        const size_t other = g * members + n;
        if (other == me) continue;
        const int64_t mine = rows_in(plan.rank_rows[me]), theirs = rows_in(plan.rank_rows[other]);
        counted.forward_heads[me][other] += mine * (query + key + key) + theirs * query;
        counted.backward_heads[me][other] += mine * query + theirs * (query + key + key);
      }
    }
  }
  return counted;
}

void expect_sums(const Matrix& counted, const std::vector<int64_t>& sent, const std::vector<int64_t>& received) {
  ASSERT_EQ(sent.size(), counted.size());
  ASSERT_EQ(received.size(), counted.size());
  for (size_t rank = 0; rank < counted.size(); ++rank) {
    int64_t out = 0, in = 0;
    for (size_t other = 0; other < counted.size(); ++other) out += counted[rank][other], in += counted[other][rank];
    EXPECT_EQ(sent[rank], out) << "rank " << rank;
    EXPECT_EQ(received[rank], in) << "rank " << rank;
    EXPECT_EQ(counted[rank][rank], 0);
  }
}

TEST(ContextPlanTraffic, IsWhatEveryRankHandsToEveryOther) {
  for_random_plans([](const ContextCase& one, const CpPlan& plan) {
    const CpHeads heads{3 * one.costs.max_ulysses, one.costs.max_ulysses, 5};
    const CpTraffic traffic = predict_traffic(plan, heads);
    const Counted counted = count_elements(plan, heads);
    expect_sums(counted.keys, traffic.forward_keys_sent, traffic.forward_keys_received);
    expect_sums(counted.gradients, traffic.gradients_sent, traffic.gradients_received);
    expect_sums(counted.forward_heads, traffic.forward_heads_sent, traffic.forward_heads_received);
    expect_sums(counted.backward_heads, traffic.backward_heads_sent, traffic.backward_heads_received);
    for (size_t rank = 0; rank < index(plan.ranks); ++rank) {
      EXPECT_EQ(traffic.forward_sent(rank), traffic.forward_keys_sent[rank] + traffic.forward_heads_sent[rank]);
      EXPECT_EQ(traffic.backward_sent(rank),
                traffic.forward_keys_sent[rank] + traffic.gradients_sent[rank] + traffic.backward_heads_sent[rank]);
    }
  });
}

TEST(ContextPlanTraffic, RingAndHeadExchangeOfAnEvenTreeAreTheClosedForms) {
  constexpr int64_t kRanks = 8, kRows = 32 * 1024, kEach = kRows / kRanks;
  const std::vector<prefix::Node> tree = star(16 * 1024, std::vector<int32_t>(16, 1024));
  const CpHeads heads{32, 8, 128};
  ParallelOptions options;
  options.cp = kRanks;
  options.cp_method = CpMethod::kRing;
  const CpTraffic ring = predict_traffic(plan_context(tree, options, {}), heads);
  options.cp_method = CpMethod::kUlysses;
  const CpTraffic exchange = predict_traffic(plan_context(tree, options, {1, 4, 8}), heads);
  for (size_t rank = 0; rank < index(kRanks); ++rank) {
    EXPECT_EQ(ring.forward_sent(rank), (kRanks - 1) * kEach * 2 * 8 * 128);
    EXPECT_EQ(ring.backward_sent(rank), 2 * (kRanks - 1) * kEach * 2 * 8 * 128);
    EXPECT_EQ(exchange.forward_sent(rank), kEach * (2 * 32 + 2 * 8) * 128 * (kRanks - 1) / kRanks);
    EXPECT_EQ(exchange.backward_sent(rank), kEach * (2 * 32 + 2 * 8) * 128 * (kRanks - 1) / kRanks);
  }
}

TEST(ContextPlanTraffic, HeadsThatThePlanCannotSplitAreRefused) {
  ParallelOptions options;
  options.cp = 4;
  options.ulysses = 4;
  const CpPlan plan = plan_context(star(64, {8, 8}), options, {1, 4, 4});
  const std::string what = test::error_of<ConfigError>([&] { predict_traffic(plan, {8, 2, 16}); });
  test::expect_words(what, {"parallel.ulysses"});
}

}  // namespace
}  // namespace fpdist::plan
