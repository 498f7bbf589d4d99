// tree_attention's kernels on the PTX machine: right for any tree, any rows and any heads, against float64; the same
// bits whatever the order of warps, blocks and copies.
#include "tests/kernels/cuda/attention_case.hpp"

namespace fpdist::kernels {
namespace {

using test::AttentionCase, test::fresh_launches, test::launches, test::TreeMask;

/// Both ways, in this order.
void expect_right(AttentionCase& attention) {
  attention.run();
  EXPECT_LT(attention.out_error(), test::rounding(Element::kBFloat16));
  EXPECT_LT(attention.lse_error(), 1e-5);
  attention.run_backward();
  EXPECT_LT(attention.gradient_error(), test::rounding(Element::kBFloat16));
}

TEST(TreeAttentionKernel, IsRightForAnyTreeAndHeads) {
  const test::HeadCounts heads[] = {{1, 1, 128}, {4, 1, 64}, {7, 1, 64}, {2, 2, 64}, {4, 2, 128}};
  const int32_t rows[] = {300, 129, 64, 1, 257};
  for (size_t i = 0; i < std::size(heads); ++i) {
    SCOPED_TRACE(testing::Message() << rows[i] << " rows, " << heads[i].query << ":" << heads[i].key);
    fresh_launches();
    AttentionCase attention(test::random_forest(rows[i], i + 1), heads[i], i % 2 == 0 ? 0 : 64);
    expect_right(attention);
  }
}

TEST(TreeAttentionKernel, RoundsItsResultsWhereAsked) {
  for (const int size : {64, 128}) {
    fresh_launches();
    AttentionCase attention(test::random_forest(140, 9), {2, 1, size}, 0, 0.1f, Element::kBFloat16);
    attention.run();
    EXPECT_LT(attention.out_error(), 2 * test::rounding(Element::kBFloat16));
    attention.run_backward();
    EXPECT_LT(attention.gradient_error(), 2 * test::rounding(Element::kBFloat16));
  }
}

TEST(TreeAttentionKernel, AddsUpTheGradientsOfKeysThatWereCut) {
  // Some blocks or all, whole tiles and parts of them, more parts than steps.
  for (const ListCut cut : {ListCut{2, 1}, ListCut{3, 3}, ListCut{8, 2}}) {
    SCOPED_TRACE(testing::Message() << cut.blocks << " blocks, " << cut.parts << " parts");
    std::vector<std::vector<float>> results;
    for (const uint64_t seed : {0, 1}) {
      fresh_launches(seed);
      AttentionCase attention(test::random_forest(270, 9), {7, 1, 64}, 0, 0.1f, Element::kFloat32, cut);
      attention.run();
      attention.run_backward();
      EXPECT_LT(attention.gradient_error(), test::rounding(Element::kBFloat16));
      results.push_back(attention.results());
    }
    EXPECT_EQ(results[0], results[1]);
  }
  fresh_launches();
  AttentionCase rounded(test::random_forest(140, 9), {2, 2, 128}, 0, 0.1f, Element::kBFloat16, {2, 1});
  rounded.run();
  rounded.run_backward();
  EXPECT_LT(rounded.gradient_error(), 2 * test::rounding(Element::kBFloat16));
}

TEST(TreeAttentionKernel, CutsTheKeysWhereFewBlocksHaveMostOfTheWork) {
  const auto cut_of = [](const TreeMask& mask, int64_t key_heads) {
    const TileTable table =
        tiles_by_key(mask_rows(mask.q_row, mask.k_row, mask.k_end, kPaddedRows), kQueriesOfTile, kKeyBlock);
    std::vector<int64_t> lengths;
    for (const int32_t block : table.order)
      lengths.push_back(table.offset[static_cast<size_t>(block) + 1] - table.offset[static_cast<size_t>(block)]);
    const ListCut cut = cut_lists(lengths, key_heads);
    return std::pair{cut.parts, cut.blocks};
  };
  const std::pair whole{1, 0};
  EXPECT_EQ(cut_of({}, 4), whole);
  EXPECT_EQ(cut_of(test::prompt_and_answers(8192, 0, 1), 4), whole);
  EXPECT_EQ(cut_of(test::prompt_and_answers(4096, 8, 1024), 4), whole);
  EXPECT_EQ(cut_of(test::prompt_and_answers(1024, 8, 1024), 4), (std::pair{3, 8}));  // the prompt's blocks
  EXPECT_EQ(cut_of(test::prompt_and_answers(1024, 8, 1024), 8), (std::pair{2, 8}));
  EXPECT_EQ(cut_of(test::prompt_and_answers(128, 40, 128), 1).first, kMostCuts);
}

TEST(TreeAttentionKernel, IsRightForPartsOfThePack) {
  const TreeMask whole = test::random_forest(400, 7);
  const auto odd_runs = [](int32_t row) { return row / 16 % 2 == 1; };
  const TreeMask parts[] = {test::part_of(
                                whole, [](int32_t row) { return row >= 200; }, odd_runs),
                            test::part_of(whole, odd_runs, [](int32_t row) { return row < 200; }),
                            // Queries before all keys.
                            test::part_of(
                                whole, [](int32_t row) { return row < 150; }, [](int32_t row) { return row > 200; })};
  for (const TreeMask& part : parts) {
    SCOPED_TRACE(testing::Message() << part.q_row.size() << " queries, " << part.k_row.size() << " keys");
    fresh_launches();
    AttentionCase attention(part, {2, 1, 64});
    expect_right(attention);
  }
}

TEST(TreeAttentionKernel, GivesTheSameBitsInEveryOrder) {
  std::vector<std::vector<float>> results;
  for (const uint64_t seed : {0, 1, 2}) {
    fresh_launches(seed);
    AttentionCase attention(test::random_forest(500, 3), {2, 1, 64});
    attention.run();
    attention.run_backward();
    results.push_back(attention.results());
  }
  EXPECT_EQ(results[1], results[0]);
  EXPECT_EQ(results[2], results[0]);
}

TEST(TreeAttentionKernel, LeavesScoresFarBelowTheRangeOfExp) {
  fresh_launches();
  AttentionCase attention(test::random_forest(140, 5), {1, 1, 64}, 0, 30.0f);  // scores of several hundred either way
  attention.run();
  EXPECT_LT(attention.out_error(), test::rounding(Element::kBFloat16));
  attention.run_backward();
  EXPECT_LT(attention.gradient_error(), 2 * test::rounding(Element::kBFloat16));
}

TEST(TreeAttentionKernel, DoesNoMoreProductsThanItsTiles) {
  const int size = 64;
  fresh_launches();
  AttentionCase attention(test::prompt_and_answers(256, 2, 128), {2, 1, size});
  attention.run();
  // Tiles by block of queries: 1, 2, 3, and 3 without the other answer; 2 heads, 2 products.
  EXPECT_EQ(launches().counters.tensor_flop, uint64_t{4 * 128 * 128 * size} * (1 + 2 + 3 + 3) * 2);
  EXPECT_EQ(launches().counters.shared_waves, launches().counters.least_shared_waves);
  const uint64_t forward = launches().counters.tensor_flop;
  attention.run_backward();
  EXPECT_EQ(launches().counters.tensor_flop - forward, 7 * forward / 2);  // three by queries, four by keys
  EXPECT_EQ(launches().counters.shared_waves, launches().counters.least_shared_waves);
}

}  // namespace
}  // namespace fpdist::kernels
