#include "src/plan/pack/slicer.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "fpdist/core/rng.hpp"
#include "src/core/index.hpp"
#include "src/plan/costs/unit_cost.hpp"
#include "tests/support/random/random_lengths.hpp"

namespace fpdist::plan {
namespace {

using test::random_lengths;

/// The rows of a pack one by one: keys seen and edges leaving.
std::vector<Amount> rows_of(const LengthTree& tree, const std::vector<int32_t>& samples) {
  std::vector<bool> keep(tree.node.size());
  for (const int32_t s : samples)
    for (int32_t n = tree.sample[index(s)].node; n >= 0; n = tree.node[index(n)].parent) keep[index(n)] = true;
  std::vector<Amount> rows;
  std::vector<int64_t> last(tree.node.size(), -1);  // last row at or above a node
  for (size_t n = 0; n < tree.node.size(); ++n) {
    if (!keep[n]) continue;
    const LengthNode& node = tree.node[n];
    const int64_t above = node.parent >= 0 ? last[index(node.parent)] : -1, first = static_cast<int64_t>(rows.size());
    for (int64_t i = 0; i < node.rows; ++i) rows.push_back({1, node.above + i + 1, 0});
    last[n] = node.rows > 0 ? static_cast<int64_t>(rows.size()) - 1 : above;
    for (const int32_t s : samples) {
      if (tree.sample[index(s)].node != static_cast<int32_t>(n)) continue;
      for (int64_t i = first; i + 1 < static_cast<int64_t>(rows.size()); ++i) ++rows[index(i)].edges;
      if (above >= 0 && node.rows > 0) ++rows[index(above)].edges;
    }
  }
  return rows;
}

TEST(Slicer, SlicesAreTheRowsOneByOne) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    Rng rng(seed, 6);
    const LengthTree tree = random_lengths(rng, 4, 12);
    StageCosts costs;
    Slicer slicer(tree, costs);
    std::vector<int32_t> samples;
    for (size_t s = 0; s < tree.sample.size(); ++s)
      if (rng.below(3)) samples.push_back(static_cast<int32_t>(s));
    if (samples.empty()) samples.push_back(0);
    std::vector<int64_t> ends;
    for (uint64_t i = rng.below(8); i > 0; --i) ends.push_back(static_cast<int64_t>(rng.below(kWholePack)));
    std::sort(ends.begin(), ends.end());
    std::vector<Amount> slices;
    slicer.cut(samples, ends, slices);
    const std::vector<Amount> rows = rows_of(tree, samples);
    ASSERT_EQ(slices.size(), ends.size() + 1);
    size_t row = 0;
    Amount all;
    for (const Amount& slice : slices) {
      EXPECT_GE(slice.rows, rows.size() > ends.size() ? 1 : 0);
      Amount sum;
      for (int64_t i = 0; i < slice.rows; ++i) sum += rows.at(row++);
      EXPECT_EQ(slice, sum);
      all += sum;
    }
    EXPECT_EQ(row, rows.size());
    EXPECT_EQ(slicer.whole(samples), all);
  }
}

TEST(Slicer, EqualSharesCostAlikeToARow) {
  const LengthTree tree = parse_lengths("{\"prefix\": 4000, \"completions\": [700, 300, 1200]}", "f");
  StageCosts costs;
  Slicer slicer(tree, costs);
  std::vector<Amount> slices;
  slicer.cut(std::vector<int32_t>{0, 1, 2}, std::vector<int64_t>{kWholePack / 4, kWholePack / 2, kWholePack / 4 * 3},
             slices);
  int64_t most = 0, least = INT64_MAX;
  for (const Amount& slice : slices) {
    most = std::max(most, total_work(costs, slice));
    least = std::min(least, total_work(costs, slice));
  }
  EXPECT_LE(most - least, 2 * total_work(costs, {1, 5200, 3}));
}

}  // namespace
}  // namespace fpdist::plan
