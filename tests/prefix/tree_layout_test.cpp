#include "fpdist/prefix/tree_layout.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/core/rng.hpp"
#include "fpdist/data/sample.hpp"
#include "src/core/index.hpp"
#include "src/prefix/row_keys.hpp"
#include "tests/support/random/odd_groups.hpp"

namespace fpdist::prefix {
namespace {

using test::odd_groups;

std::vector<PackMember> members_of(const std::vector<data::Group>& groups) {
  std::vector<PackMember> members;
  for (const data::Group& group : groups)
    for (size_t s = 0; s < group.sample.size(); ++s)
      members.push_back({group.id, static_cast<int32_t>(s), &group.sample[s]});
  return members;
}

/// Node of every row.
std::vector<int32_t> node_of_row(const TreeLayout& layout) {
  std::vector<int32_t> node(index(layout.rows()), -1);
  for (size_t n = 0; n < layout.node.size(); ++n)
    for (int32_t row = layout.node[n].begin; row < layout.node[n].end; ++row)
      node[index(row)] = static_cast<int32_t>(n);
  return node;
}

/// Rows of a sample from its first token to its last, by climbing from last_row.
std::vector<int32_t> rows_of(const TreeLayout& layout, const std::vector<int32_t>& node_of, size_t b) {
  std::vector<int32_t> rows;
  int32_t last = layout.sample[b].last_row;
  while (last >= 0) {
    const Node& node = layout.node[index(node_of[index(last)])];
    for (int32_t row = last; row >= node.begin; --row) rows.push_back(row);
    last = node.parent < 0 ? -1 : layout.node[index(node.parent)].end - 1;
  }
  std::reverse(rows.begin(), rows.end());
  return rows;
}

/// Runs `law(layout, members)` over random forests, shared and unshared.
template <typename Law>
void for_random_layouts(Law law) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    for (const bool share : {true, false}) {
      SCOPED_TRACE(::testing::Message() << "seed " << seed << " share " << share);
      const std::vector<data::Group> groups = odd_groups(seed);
      const std::vector<PackMember> members = members_of(groups);
      law(make_layout(members, share), members);
      if (::testing::Test::HasFatalFailure()) return;
    }
  }
}

TEST(TreeLayout, OneIntegerATokenIsTheWholeVisibility) {
  for_random_layouts([](const TreeLayout& layout, const std::vector<PackMember>& members) {
    const std::vector<int32_t> node_of = node_of_row(layout);
    std::set<std::pair<int32_t, int32_t>> visible;  // (query, key): both on a sample's path, key not later
    for (size_t b = 0; b < members.size(); ++b) {
      const std::vector<int32_t> rows = rows_of(layout, node_of, b);
      for (size_t i = 0; i < rows.size(); ++i)
        for (size_t j = 0; j <= i; ++j) visible.emplace(rows[i], rows[j]);
    }
    for (int32_t i = 0; i < layout.rows(); ++i)
      for (int32_t j = 0; j < layout.rows(); ++j)
        ASSERT_EQ(j <= i && i < layout.subtree_end[index(j)], visible.count({i, j}) == 1) << i << " sees " << j;
  });
}

TEST(TreeLayout, EveryPathSpellsItsSampleAndDepthIsThePosition) {
  for_random_layouts([](const TreeLayout& layout, const std::vector<PackMember>& members) {
    const std::vector<int32_t> node_of = node_of_row(layout);
    ASSERT_EQ(layout.sample.size(), members.size());
    for (size_t b = 0; b < members.size(); ++b) {
      std::vector<int32_t> spelled;
      for (const int32_t row : rows_of(layout, node_of, b)) {
        EXPECT_EQ(layout.depth[index(row)], static_cast<int32_t>(spelled.size()));
        spelled.push_back(layout.token[index(row)]);
      }
      EXPECT_EQ(spelled, members[b].sample->token);
      EXPECT_EQ(layout.sample[b].index, members[b].index);
      if (b > 0) {
        EXPECT_EQ(layout.sample[b].group == layout.sample[b - 1].group, members[b].group == members[b - 1].group);
      }
    }
  });
}

TEST(TreeLayout, EveryEdgeIsPredictedFromTheRowBeforeItsToken) {
  for_random_layouts([](const TreeLayout& layout, const std::vector<PackMember>& members) {
    const std::vector<int32_t> node_of = node_of_row(layout);
    int64_t e = 0;
    for (size_t b = 0; b < members.size(); ++b) {
      const std::vector<int32_t> rows = rows_of(layout, node_of, b);
      EXPECT_EQ(layout.sample[b].first_edge, e);
      for (size_t t = 1; t < rows.size(); ++t) {
        if (members[b].sample->target[t] == data::kIgnore) continue;
        ASSERT_LT(e, layout.edges());
        const size_t score = index(layout.edge_score[index(e)]);
        EXPECT_EQ(layout.edge_sample[index(e)], static_cast<int32_t>(b));
        EXPECT_EQ(layout.edge_index[index(e)], static_cast<int32_t>(t));
        EXPECT_EQ(layout.score_row[score], rows[t - 1]);
        EXPECT_EQ(layout.score_target[score], members[b].sample->target[t]);
        ++e;
      }
      EXPECT_EQ(layout.sample[b].first_edge + layout.sample[b].edges, e);
    }
    EXPECT_EQ(layout.edges(), e);
  });
}

TEST(TreeLayout, ScoresAreDistinctUsedAndAscendByRow) {
  for_random_layouts([](const TreeLayout& layout, const std::vector<PackMember>&) {
    EXPECT_TRUE(std::is_sorted(layout.score_row.begin(), layout.score_row.end()));
    std::set<std::pair<int32_t, int32_t>> distinct;
    for (size_t s = 0; s < layout.score_row.size(); ++s) distinct.emplace(layout.score_row[s], layout.score_target[s]);
    EXPECT_EQ(distinct.size(), layout.score_row.size());
    EXPECT_EQ(std::set<int32_t>(layout.edge_score.begin(), layout.edge_score.end()).size(), layout.score_row.size());
  });
}

TEST(TreeLayout, ARowWithThousandsOfTargetsIsNoSlower) {
  std::vector<data::Sample> samples(20000);
  std::vector<PackMember> members;
  for (size_t b = 0; b < samples.size(); ++b) {
    samples[b].token = {1, static_cast<int32_t>(b)};
    samples[b].target = samples[b].token;
    members.push_back({static_cast<int64_t>(b), 0, &samples[b]});
  }
  const TreeLayout layout = make_layout(members);
  EXPECT_EQ(layout.rows(), 20001);
  EXPECT_EQ(layout.scores(), 20000);
}

TEST(TreeLayout, ASampleWithoutAsManyTargetsAsTokensIsRefused) {
  data::Sample sample;
  sample.token = {1, 2};
  sample.target = {1};
  const PackMember member{3, 0, &sample};
  EXPECT_THROW(make_layout({&member, 1}), DataError);
}

TEST(RowKeys, AreEqualForEqualPathsAlone) {
  std::map<int64_t, std::vector<int32_t>> path_of;  // of each key that any layout has had
  for_random_layouts([&](const TreeLayout& layout, const std::vector<PackMember>& members) {
    const std::vector<int64_t> keys = row_keys(layout);
    const std::vector<int32_t> node_of = node_of_row(layout);
    for (size_t b = 0; b < members.size(); ++b) {
      const std::vector<int32_t> rows = rows_of(layout, node_of, b);
      std::vector<int32_t> path;
      for (const int32_t row : rows) {
        path.push_back(layout.token[index(row)]);
        EXPECT_EQ(path_of.try_emplace(keys[index(row)], path).first->second, path);
      }
    }
  });
  std::set<std::vector<int32_t>> paths;
  for (const auto& [key, path] : path_of) EXPECT_TRUE(paths.insert(path).second) << "one path with two keys";
}

}  // namespace
}  // namespace fpdist::prefix
