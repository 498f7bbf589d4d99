// Slices over context-parallel ranks: every key that a query sees comes once, from its owner.

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/core/rng.hpp"
#include "src/core/index.hpp"
#include "src/plan/context/context_plan.hpp"
#include "tests/plan/context/context_cases.hpp"
#include "tests/support/plan/context_trees.hpp"

namespace fpdist::plan {
namespace {

using test::random_forest, test::row_ends;

std::vector<int> marked(const std::vector<RowRange>& ranges, size_t rows) {
  std::vector<int> mark(rows);
  for (const RowRange& range : ranges)
    for (int32_t row = range.begin; row < range.end; ++row) ++mark[index(row)];
  return mark;
}

void expect_law(const std::vector<prefix::Node>& node, const std::vector<int32_t>& slice_end,
                const std::vector<CpPlan>& plans) {
  const std::vector<int32_t> end = row_ends(node);
  const size_t rows = end.size(), teams = plans[0].team_rows.size();
  ASSERT_EQ(plans.size(), slice_end.size());
  std::vector<std::vector<int>> owned(teams, std::vector<int>(rows));
  int32_t begin = 0;
  for (size_t s = 0; s < plans.size(); ++s) {
    const CpPlan& plan = plans[s];
    EXPECT_EQ(plan.ulysses, plans[0].ulysses);
    std::vector<int> owners(rows);
    for (size_t g = 0; g < teams; ++g) {
      const auto own = marked(plan.team_rows[g], rows);
      for (size_t row = 0; row < rows; ++row) owned[g][row] += own[row], owners[row] += own[row];
    }
    for (size_t row = 0; row < rows; ++row)
      EXPECT_EQ(owners[row], static_cast<int32_t>(row) >= begin && static_cast<int32_t>(row) < slice_end[s]);
    for (size_t g = 0; g < teams; ++g) {
      std::vector<int> arrives(rows);
      ASSERT_EQ(plan.round[g].size(), plan.round[0].size());
      for (size_t round = 0; round < plan.round[g].size(); ++round)
        for (const KeyMessage& message : plan.round[g][round].receive) {
          const auto part = marked(message.rows, rows);
          for (size_t row = 0; row < rows; ++row) {
            arrives[row] += part[row];
            EXPECT_LE(part[row], owned[index(message.peer)][row]) << "sent by a team that does not own it";
          }
          const auto& sends = plan.round[index(message.peer)][round].send;
          EXPECT_EQ(std::count(sends.begin(), sends.end(), KeyMessage{static_cast<int32_t>(g), message.rows}), 1);
        }
      const auto queries = marked(plan.team_rows[g], rows);
      for (size_t key = 0; key < rows; ++key) {
        bool is_seen = false;
        for (size_t i = key; i < index(end[key]); ++i) is_seen = is_seen || queries[i];
        EXPECT_EQ(arrives[key], is_seen && !owned[g][key]) << "key " << key << " of team " << g << ", slice " << s;
      }
    }
    begin = slice_end[s];
  }
}

TEST(ContextPlanSlices, EveryVisibleKeyComesOnceFromItsOwner) {
  for (uint64_t seed = 0; seed < 150; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    Rng rng(seed, 91);
    const std::vector<prefix::Node> node = random_forest(rng, 12, 8);
    const int32_t rows = node.empty() ? 0 : node.back().end;
    if (rows < 2) continue;
    std::vector<int32_t> slice_end;
    for (int32_t row = 1; row < rows; ++row)
      if (rng.below(static_cast<uint64_t>(rows)) < 3) slice_end.push_back(row);
    slice_end.push_back(rows);
    ParallelOptions options;
    options.cp = static_cast<int>(1 + rng.below(5)), options.cp_chunk = static_cast<int64_t>(1 + rng.below(6));
    options.ulysses = options.cp % 2 == 0 ? static_cast<int>(rng.below(3)) : 1;
    const auto plans =
        plan_context_slices(node, slice_end, options, {.key_bytes = 2, .head_bytes = 6, .max_ulysses = 2});
    if (slice_end.size() > 1) expect_law(node, slice_end, plans);
  }
}

TEST(ContextPlanSlices, RowsOfEverySliceAreSharedOut) {
  const std::vector<prefix::Node> node{{0, 4096, -1, 0}, {4096, 5120, 0, 4096}, {5120, 6144, 0, 4096}};
  ParallelOptions options;
  options.cp = 4, options.cp_chunk = 64;
  const std::vector<int32_t> slice_end{2048, 4096, 6144};
  const auto plans = plan_context_slices(node, slice_end, options, {});
  for (const CpPlan& plan : plans)
    for (const auto& ranges : plan.rank_rows) {
      int64_t rows = 0;
      for (const RowRange& range : ranges) rows += range.size();
      EXPECT_NEAR(static_cast<double>(rows), 512.0, 30.0);
    }
}

}  // namespace
}  // namespace fpdist::plan
