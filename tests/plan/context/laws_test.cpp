// Laws of every context plan, over random forests, rank counts, head splits and methods.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/core/rng.hpp"
#include "src/core/index.hpp"
#include "src/plan/context/context_plan.hpp"
#include "tests/plan/context/context_cases.hpp"
#include "tests/support/plan/context_trees.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::plan {
namespace {

using test::ContextCase, test::for_random_plans, test::random_case, test::star;

void count(std::span<const RowRange> ranges, std::vector<int>& times) {
  for (const RowRange& range : ranges)
    for (int32_t row = range.begin; row < range.end; ++row) ++times[index(row)];
}

void expect_ascending(std::span<const RowRange> ranges) {
  for (size_t i = 0; i < ranges.size(); ++i) {
    EXPECT_LT(ranges[i].begin, ranges[i].end);
    if (i > 0) {
      EXPECT_LT(ranges[i - 1].end, ranges[i].begin) << "touching ranges are joined";
    }
  }
}

/// [rows] the node of each.
std::vector<int32_t> node_of_rows(const ContextCase& one) {
  std::vector<int32_t> result;
  for (size_t v = 0; v < one.node.size(); ++v) result.resize(index(one.node[v].end), static_cast<int32_t>(v));
  return result;
}

/// Calls visit(key) for every key that `row` sees, its own included.
template <typename Visit>
void for_visible(const ContextCase& one, int32_t node, int32_t row, Visit visit) {
  for (int32_t key = row; key >= one.node[index(node)].begin; --key) visit(key);
  for (int32_t v = one.node[index(node)].parent; v >= 0; v = one.node[index(v)].parent)
    for (int32_t key = one.node[index(v)].begin; key < one.node[index(v)].end; ++key) visit(key);
}

/// [teams][rows] how often a query of the team sees the key.
std::vector<std::vector<int>> needed_keys(const ContextCase& one, const CpPlan& plan) {
  const std::vector<int32_t> node = node_of_rows(one);
  std::vector<std::vector<int>> needed(plan.team_rows.size(), std::vector<int>(index(one.rows())));
  for (size_t g = 0; g < plan.team_rows.size(); ++g)
    for (const RowRange& range : plan.team_rows[g])
      for (int32_t row = range.begin; row < range.end; ++row)
        for_visible(one, node[index(row)], row, [&](int32_t key) { ++needed[g][index(key)]; });
  return needed;
}

TEST(ContextPlan, EveryRowIsOwnedExactlyOnceByATeamAndByARankOfIt) {
  for_random_plans([](const ContextCase& one, const CpPlan& plan) {
    EXPECT_EQ(plan.ranks, one.options.cp);
    EXPECT_EQ(plan.ranks % plan.ulysses, 0);
    EXPECT_EQ(one.costs.max_ulysses % plan.ulysses, 0);
    if (one.options.ulysses > 0) {
      EXPECT_EQ(plan.ulysses, one.options.ulysses);
    }
    ASSERT_EQ(plan.team_rows.size(), index(plan.teams()));
    ASSERT_EQ(plan.rank_rows.size(), index(plan.ranks));
    ASSERT_EQ(plan.round.size(), index(plan.teams()));
    std::vector<int> by_teams(index(one.rows())), by_ranks(index(one.rows()));
    for (size_t g = 0; g < plan.team_rows.size(); ++g) {
      expect_ascending(plan.team_rows[g]);
      count(plan.team_rows[g], by_teams);
      std::vector<int> of_team(index(one.rows())), of_members(index(one.rows()));
      count(plan.team_rows[g], of_team);
      int64_t least = one.rows(), most = 0;
      int32_t last = 0;
      for (size_t r = g * index(plan.ulysses); r < (g + 1) * index(plan.ulysses); ++r) {
        const std::vector<RowRange>& rows = plan.rank_rows[r];
        expect_ascending(rows);
        count(rows, of_members);
        int64_t owned = 0;
        for (const RowRange& range : rows) owned += range.size();
        least = std::min(least, owned), most = std::max(most, owned);
        if (rows.empty()) continue;
        EXPECT_GE(rows.front().begin, last) << "members hold runs in their order";
        last = rows.back().end;
      }
      EXPECT_LE(most - least, 1);
      EXPECT_EQ(of_members, of_team);
      count(plan.team_rows[g], by_ranks);
    }
    EXPECT_EQ(by_teams, std::vector<int>(index(one.rows()), 1));
    EXPECT_EQ(by_ranks, by_teams);
  });
}

TEST(ContextPlan, EveryVisibleKeyIsThereExactlyOnceAndNothingElseTravelsButOnRings) {
  for_random_plans([](const ContextCase& one, const CpPlan& plan) {
    const std::vector<std::vector<int>> needed = needed_keys(one, plan);
    const std::vector<int32_t> node = node_of_rows(one);
    for (int g = 0; g < plan.teams(); ++g) {
      std::vector<int> held(index(one.rows()));
      for (int s = -1; s < static_cast<int>(plan.round[index(g)].size()); ++s) {
        const std::vector<RowRange> keys = keys_of_round(plan, g, s);
        expect_ascending(keys);
        count(keys, held);
      }
      for (int32_t key = 0; key < one.rows(); ++key) {
        if (needed[index(g)][index(key)] > 0) {
          ASSERT_EQ(held[index(key)], 1) << "key " << key << " of team " << g;
        }
        ASSERT_LE(held[index(key)], 1) << "key " << key << " of team " << g;
      }
      if (one.options.cp_method == CpMethod::kRing) continue;
      std::vector<int> owned(index(one.rows()));
      count(plan.team_rows[index(g)], owned);
      for (int32_t key = 0; key < one.rows(); ++key)
        ASSERT_FALSE(held[index(key)] && !owned[index(key)] && !needed[index(g)][index(key)])
            << "team " << g << " has no use for key " << key;
    }
  });
}

TEST(ContextPlan, SendsMirrorReceivesWithOneMessageAPeerAndRound) {
  for_random_plans([](const ContextCase&, const CpPlan& plan) {
    const size_t rounds = plan.round.front().size();
    for (int g = 0; g < plan.teams(); ++g) {
      ASSERT_EQ(plan.round[index(g)].size(), rounds);
      for (size_t s = 0; s < rounds; ++s) {
        const CpRound& mine = plan.round[index(g)][s];
        for (const auto* messages : {&mine.send, &mine.receive}) {
          for (size_t i = 0; i < messages->size(); ++i) {
            EXPECT_NE((*messages)[i].peer, g);
            EXPECT_FALSE((*messages)[i].rows.empty());
            expect_ascending((*messages)[i].rows);
            if (i > 0) {
              EXPECT_LT((*messages)[i - 1].peer, (*messages)[i].peer);
            }
          }
        }
        for (const KeyMessage& message : mine.send) {
          const std::vector<KeyMessage>& theirs = plan.round[index(message.peer)][s].receive;
          EXPECT_EQ(std::count(theirs.begin(), theirs.end(), KeyMessage{g, message.rows}), 1);
        }
        for (const KeyMessage& message : mine.receive) {
          const std::vector<KeyMessage>& theirs = plan.round[index(message.peer)][s].send;
          EXPECT_EQ(std::count(theirs.begin(), theirs.end(), KeyMessage{g, message.rows}), 1);
        }
      }
    }
  });
}

TEST(ContextPlan, OnlyOwnedRowsAndThoseOfThePreviousRoundAreSent) {
  for_random_plans([](const ContextCase& one, const CpPlan& plan) {
    for (int g = 0; g < plan.teams(); ++g) {
      for (size_t s = 0; s < plan.round[index(g)].size(); ++s) {
        std::vector<int> held(index(one.rows()));
        count(plan.team_rows[index(g)], held);
        if (s > 0) count(keys_of_round(plan, g, static_cast<int>(s) - 1), held);
        for (const KeyMessage& message : plan.round[index(g)][s].send)
          for (const RowRange& range : message.rows)
            for (int32_t row = range.begin; row < range.end; ++row)
              ASSERT_GT(held[index(row)], 0) << "team " << g << " sends row " << row << " in round " << s;
      }
    }
  });
}

TEST(ContextPlan, MethodsKeepTheirShape) {
  for_random_plans([](const ContextCase& one, const CpPlan& plan) {
    const int rounds = static_cast<int>(plan.round.front().size());
    if (plan.teams() == 1) {
      EXPECT_EQ(rounds, 0);
    }
    const CpLoad load = load_of(plan, one.node);
    switch (one.options.cp_method) {
      case CpMethod::kRing:
        for (int g = 0; g < plan.teams(); ++g)
          EXPECT_EQ(load.received[index(g)], plan.teams() == 1 ? 0 : one.rows() - load.rows[index(g)]);
        for (const std::vector<CpRound>& team : plan.round)
          for (const CpRound& round : team) EXPECT_LE(round.receive.size(), 1u);
        break;
      case CpMethod::kGroupCast:
        EXPECT_LE(rounds, 4);
        break;
      case CpMethod::kUlysses:
        if (one.options.ulysses == 0) {
          EXPECT_EQ(plan.ulysses, std::gcd(one.options.cp, one.costs.max_ulysses));
        }
        break;
      case CpMethod::kAuto:
        EXPECT_TRUE(rounds <= 4 || rounds == plan.teams() - 1);
        break;
    }
  });
}

TEST(ContextPlan, LoadsAreCountedRowByRow) {
  for_random_plans([](const ContextCase& one, const CpPlan& plan) {
    const std::vector<std::vector<int>> needed = needed_keys(one, plan);
    const CpLoad load = load_of(plan, one.node);
    for (size_t g = 0; g < plan.team_rows.size(); ++g) {
      EXPECT_EQ(load.pairs[g], std::accumulate(needed[g].begin(), needed[g].end(), int64_t{0}));
      int64_t received = 0;
      for (size_t s = 0; s < plan.round[g].size(); ++s)
        for (const RowRange& range : keys_of_round(plan, static_cast<int>(g), static_cast<int>(s)))
          received += range.size();
      EXPECT_EQ(load.received[g], received);
    }
    EXPECT_EQ(load.total_rows, one.rows());
    EXPECT_EQ(load.total_pairs, std::accumulate(load.pairs.begin(), load.pairs.end(), int64_t{0}));
    EXPECT_EQ(std::accumulate(load.sent.begin(), load.sent.end(), int64_t{0}),
              std::accumulate(load.received.begin(), load.received.end(), int64_t{0}));
  });
}

TEST(ContextPlan, TheSameInputsGiveTheSamePlan) {
  for_random_plans([](const ContextCase& one, const CpPlan& plan) {
    const CpPlan again = plan_context(one.node, one.options, one.costs);
    EXPECT_EQ(again.ulysses, plan.ulysses);
    EXPECT_EQ(again.rank_rows, plan.rank_rows);
    EXPECT_EQ(again.team_rows, plan.team_rows);
    ASSERT_EQ(again.round.size(), plan.round.size());
    for (size_t g = 0; g < plan.round.size(); ++g) {
      ASSERT_EQ(again.round[g].size(), plan.round[g].size());
      for (size_t s = 0; s < plan.round[g].size(); ++s) {
        EXPECT_EQ(again.round[g][s].send, plan.round[g][s].send);
        EXPECT_EQ(again.round[g][s].receive, plan.round[g][s].receive);
      }
    }
  });
}

TEST(ContextPlan, AutoTakesTheHeadSplitThatMovesFewerBytes) {
  int split = 0, whole = 0;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    ContextCase one = random_case(seed);
    one.options.cp_method = CpMethod::kAuto;
    const int most = std::gcd(one.options.cp, one.costs.max_ulysses);
    // Bytes that the worst rank receives, times `most`.
    const auto bytes = [&](int ulysses) {
      one.options.ulysses = ulysses;
      const CpLoad load = load_of(plan_context(one.node, one.options, one.costs), one.node);
      const int64_t rows = (one.rows() + one.options.cp - 1) / one.options.cp;
      return most / ulysses *
             (*std::max_element(load.received.begin(), load.received.end()) * one.costs.key_bytes +
              rows * one.costs.head_bytes * (ulysses - 1));
    };
    const int64_t keys = bytes(1), heads = bytes(most);
    one.options.ulysses = 0;
    const int chosen = plan_context(one.node, one.options, one.costs).ulysses;
    EXPECT_EQ(chosen, heads < keys ? most : 1);
    ++(chosen > 1 ? split : whole);
  }
  EXPECT_GT(split, 10);
  EXPECT_GT(whole, 10);
}

TEST(ContextPlan, SmallPacksLeaveRanksWithoutRows) {
  for (const CpMethod method : {CpMethod::kAuto, CpMethod::kRing, CpMethod::kGroupCast, CpMethod::kUlysses}) {
    ParallelOptions options;
    options.cp = 8;
    options.cp_method = method;
    const CpPlan none = plan_context({}, options, {});
    EXPECT_EQ(none.rank_rows, std::vector<std::vector<RowRange>>(8));
    EXPECT_TRUE(none.round.front().empty());
    const CpPlan one_row = plan_context(star(1, {}), options, {});
    EXPECT_EQ(load_of(one_row, star(1, {})).rows, (std::vector<int64_t>{1, 0, 0, 0, 0, 0, 0, 0}));
    const std::vector<prefix::Node> few = star(2, {1, 1, 1});
    const CpLoad load = load_of(plan_context(few, options, {}), few);
    EXPECT_EQ(*std::max_element(load.rows.begin(), load.rows.end()), 1) << "five rows, eight ranks";
    options.cp = 1;
    const CpPlan alone = plan_context(few, options, {});
    EXPECT_EQ(alone.rank_rows, (std::vector<std::vector<RowRange>>{{{0, 5}}}));
    EXPECT_TRUE(alone.round.front().empty());
  }
}

TEST(ContextPlan, RowsThatEveryTeamNeedsGoRoundAndOthersStraight) {
  // Every team gets a leaf: the whole prefix is needed by all, the leaves by nobody else.
  const std::vector<prefix::Node> tree = star(64, std::vector<int32_t>(4, 64));
  ParallelOptions options;
  options.cp = 4;
  options.ulysses = 1;
  const CpPlan plan = plan_context(tree, options, {});
  for (size_t g = 0; g < 4; ++g) {
    ASSERT_EQ(plan.round[g].size(), 3u);
    for (const CpRound& round : plan.round[g]) {
      ASSERT_EQ(round.receive.size(), 1u);
      EXPECT_EQ(round.receive[0].peer, static_cast<int32_t>((g + 3) % 4));
      EXPECT_LE(round.receive[0].rows.back().end, 64) << "leaves stay at home";
    }
  }
  options.cp_method = CpMethod::kGroupCast;
  const CpPlan direct = plan_context(tree, options, {});
  for (size_t g = 0; g < 4; ++g) {
    ASSERT_EQ(direct.round[g].size(), 1u);
    EXPECT_EQ(direct.round[g][0].receive.size(), 3u);
  }
  EXPECT_EQ(load_of(plan, tree).received, load_of(direct, tree).received);
}

TEST(ContextPlan, TheBoundIsNeverAboveWhatPerfectlyBalancedPlansReceive) {
  // One chain over n ranks: whoever holds its end needs all the rest.
  EXPECT_EQ(received_bound(star(800, {}), 8), 700);
  EXPECT_EQ(received_bound(star(800, {}), 1), 0);
  EXPECT_EQ(received_bound({}, 4), 0);
  // Case D of the design: every rank needs the prefix but its own eighth.
  EXPECT_EQ(received_bound(star(8192, std::vector<int32_t>(64, 2048)), 8), 7168);
}

TEST(ContextPlan, BadOptionsAreRefusedByName) {
  const std::vector<prefix::Node> node = star(8, {2, 2});
  const auto refuse = [&](int cp, int ulysses, int64_t chunk, const char* word) {
    ParallelOptions options;
    options.cp = cp;
    options.ulysses = ulysses;
    options.cp_chunk = chunk;
    SCOPED_TRACE(text("cp ", cp, ", ulysses ", ulysses, ", chunk ", chunk));
    test::expect_words(test::error_of<ConfigError>([&] { plan_context(node, options, {1, 4, 4}); }), {word});
  };
  refuse(-1, 0, 512, "parallel.cp is -1");
  refuse(6, 4, 512, "does not divide parallel.cp 6");
  refuse(6, 3, 512, "key-value heads");
  refuse(4, -1, 512, "parallel.ulysses is -1");
  refuse(4, 1, 0, "parallel.cp_chunk is 0");
}

}  // namespace
}  // namespace fpdist::plan
