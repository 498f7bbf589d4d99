// The portable attention kernels on the PTX machine: right for any tree, any rows, every head size, against float64;
// the same bits in every order; no product beyond its tiles, no bank conflict.
#include "tests/kernels/cuda/attention_case.hpp"

namespace fpdist::kernels {
namespace {

using test::AttentionCase, test::Cores, test::fresh_launches, test::launches, test::TreeMask;

constexpr int kHeadSizes[] = {64, 96, 128, 256};

constexpr Element kElements[] = {Element::kBFloat16, Element::kFloat16};

AttentionCase portable_case(const TreeMask& mask, const test::HeadCounts& heads, int64_t gap = 0, float scale = 0.1f,
                            Element result = Element::kFloat32, ListCut cut = {},
                            Element element = Element::kBFloat16) {
  return {mask, heads, gap, scale, result, cut, {Cores::kPortable, element}};
}

/// Both ways, in this order.
void expect_right(AttentionCase attention, Element element = Element::kBFloat16) {
  attention.run();
  EXPECT_LT(attention.out_error(), test::rounding(element));
  EXPECT_LT(attention.lse_error(), 1e-5);
  attention.run_backward();
  EXPECT_LT(attention.gradient_error(), test::rounding(element));
}

TEST(PortableAttention, IsRightForAnyTreeAndHeads) {
  const test::HeadCounts heads[] = {{1, 1, 128}, {4, 1, 64},  {3, 1, 96}, {2, 1, 256},
                                    {4, 2, 64},  {1, 1, 256}, {2, 2, 96}};
  const int32_t rows[] = {300, 129, 140, 70, 1, 33, 257};
  for (size_t i = 0; i < std::size(heads); ++i) {
    SCOPED_TRACE(testing::Message() << rows[i] << " rows, " << heads[i].query << ":" << heads[i].key << ":"
                                    << heads[i].size);
    for (const Element element : kElements) {
      fresh_launches();
      expect_right(portable_case(test::random_forest(rows[i], i + 1), heads[i], i % 2 == 0 ? 0 : 8, 0.1f,
                                 Element::kFloat32, {}, element),
                   element);
    }
  }
}

TEST(PortableAttention, RoundsItsResultsWhereAsked) {
  for (const int size : kHeadSizes)
    for (const Element element : kElements) {
      fresh_launches();
      AttentionCase attention =
          portable_case(test::random_forest(70, 9), {2, 1, size}, 0, 0.1f, element, {1, 0}, element);
      attention.run();
      EXPECT_LT(attention.out_error(), 2 * test::rounding(element));
      attention.run_backward();
      EXPECT_LT(attention.gradient_error(), 2 * test::rounding(element));
    }
}

TEST(PortableAttention, AddsUpTheGradientsOfKeysThatWereCut) {
  for (const int size : {64, 256}) {
    std::vector<std::vector<float>> results;
    for (const uint64_t seed : {0, 1}) {
      fresh_launches(seed);
      AttentionCase attention =
          portable_case(test::random_forest(140, 9), {3, 1, size}, 0, 0.1f, Element::kFloat32, {3, 1});
      attention.run();
      attention.run_backward();
      EXPECT_LT(attention.gradient_error(), test::rounding(Element::kBFloat16));
      results.push_back(attention.results());
    }
    EXPECT_EQ(results[0], results[1]);
  }
}

/// Of a short pack with few heads, its queries' lists cut for so many processors: what the operators do.
AttentionCase cut_case(const TreeMask& mask, const test::HeadCounts& heads, int processors, Element result) {
  const TileTable table =
      tiles_by_query(mask_rows(mask.q_row, mask.k_row, mask.k_end, kPaddedRows), kQueryBlock, kKeysOfBackwardTile);
  std::vector<int64_t> lengths;
  for (const int32_t block : table.order)
    lengths.push_back(table.offset[static_cast<size_t>(block) + 1] - table.offset[static_cast<size_t>(block)]);
  const ListCut cut = cut_lists(lengths, heads.query, processors);
  EXPECT_GT(cut.blocks, 0) << "nothing is cut";
  return {mask, heads, 0, 0.1f, result, {}, {Cores::kPortable}, cut};
}

TEST(PortableAttention, PutsTheQueriesOfAShortPackTogetherThatWereCut) {
  for (const auto& [size, result] : {std::pair{64, Element::kBFloat16},
                                     {64, Element::kFloat32},
                                     {128, Element::kFloat32},
                                     {256, Element::kFloat32}}) {
    SCOPED_TRACE(testing::Message() << size << ", rounded " << (result == Element::kBFloat16));
    std::vector<std::vector<float>> results;
    for (const uint64_t seed : {0, 1, 2}) {
      fresh_launches(seed);
      AttentionCase attention = cut_case(test::random_forest(200, 11), {2, 1, size}, 60, result);
      attention.run();
      attention.run_backward();
      results.push_back(attention.results());
      if (seed > 0) continue;
      fresh_launches();
      AttentionCase whole = portable_case(test::random_forest(200, 11), {2, 1, size}, 0, 0.1f, result);
      whole.run();
      whole.run_backward();
      EXPECT_LT(attention.out_error(), 1.1 * whole.out_error());
      EXPECT_LT(attention.lse_error(), 1e-5);
      EXPECT_LT(attention.gradient_error(), 1.1 * whole.gradient_error());
      EXPECT_LT(whole.gradient_error(), 2 * test::rounding(Element::kBFloat16));
    }
    EXPECT_EQ(results[1], results[0]);
    EXPECT_EQ(results[2], results[0]);
  }
}

TEST(PortableAttention, CutsWithoutAProductMoreAndOnlyWhereProcessorsWouldWait) {
  const TreeMask mask = test::prompt_and_answers(128, 2, 128);
  uint64_t flop[2];
  for (const bool is_cut : {false, true}) {
    fresh_launches();
    AttentionCase attention =
        is_cut ? cut_case(mask, {2, 1, 64}, kProcessors, Element::kFloat32) : portable_case(mask, {2, 1, 64});
    attention.run();
    attention.run_backward();
    flop[is_cut] = launches().counters.tensor_flop;
  }
  EXPECT_EQ(flop[1], flop[0]);
  // A pack of 8,192 rows and 28 heads fills a card; one of 1,024 and 4 heads does not.
  std::vector<int64_t> large, small;
  for (int64_t block = 64; block > 0; --block) large.push_back(2 * block);
  for (int64_t block = 8; block > 0; --block) small.push_back(2 * block);
  EXPECT_EQ(cut_lists(large, 28).blocks, 0);
  EXPECT_EQ(cut_lists(small, 28).blocks, 0);
  EXPECT_EQ(cut_lists(small, 4).parts, 8);
  EXPECT_EQ(cut_lists(small, 4, 16).blocks, 0) << "on a small card they are enough";
}

TEST(PortableAttention, IsRightForPartsOfThePack) {
  const TreeMask whole = test::random_forest(300, 7);
  const auto odd_runs = [](int32_t row) { return row / 16 % 2 == 1; };
  const TreeMask parts[] = {test::part_of(
                                whole, [](int32_t row) { return row >= 150; }, odd_runs),
                            test::part_of(whole, odd_runs, [](int32_t row) { return row < 150; }),
                            // Queries before all keys; no keys.
                            test::part_of(
                                whole, [](int32_t row) { return row < 120; }, [](int32_t row) { return row > 200; }),
                            test::part_of(
                                whole, [](int32_t row) { return row < 20; }, [](int32_t) { return false; })};
  for (const TreeMask& part : parts) {
    SCOPED_TRACE(testing::Message() << part.q_row.size() << " queries, " << part.k_row.size() << " keys");
    fresh_launches();
    expect_right(portable_case(part, {2, 1, 64}));
  }
}

TEST(PortableAttention, GivesTheSameBitsInEveryOrder) {
  for (const int size : kHeadSizes) {
    std::vector<std::vector<float>> results;
    for (const uint64_t seed : {0, 1, 2}) {
      fresh_launches(seed);
      AttentionCase attention = portable_case(test::random_forest(140, 3), {1, 1, size});
      attention.run();
      attention.run_backward();
      results.push_back(attention.results());
    }
    EXPECT_EQ(results[1], results[0]);
    EXPECT_EQ(results[2], results[0]);
  }
}

TEST(PortableAttention, LeavesScoresFarBelowTheRangeOfExp) {
  fresh_launches();
  AttentionCase attention = portable_case(test::random_forest(140, 5), {1, 1, 64}, 0, 30.0f);
  attention.run();
  EXPECT_LT(attention.out_error(), test::rounding(Element::kBFloat16));
  attention.run_backward();
  EXPECT_LT(attention.gradient_error(), 2 * test::rounding(Element::kBFloat16));
}

TEST(PortableAttention, DoesNoMoreProductsThanItsTilesAndMeetsNoBankTwice) {
  for (const int size : kHeadSizes) {
    SCOPED_TRACE(size);
    fresh_launches();
    AttentionCase attention = portable_case(test::prompt_and_answers(128, 2, 128), {2, 1, size});
    attention.run();
    // Tiles of 64 keys by block of 128 queries: 2, 4, and 4 without the other answer; 2 heads, 2 products.
    const uint64_t product = uint64_t{2 * 128 * 64} * static_cast<uint64_t>(size) * (2 + 4 + 4) * 2;
    EXPECT_EQ(launches().counters.tensor_flop, 2 * product);
    attention.run_backward();
    // Three by queries, four by keys; above 128 the weights twice, once for dK and once for dV.
    EXPECT_EQ(launches().counters.tensor_flop, 2 * product + (size > 128 ? 8 : 7) * product);
    EXPECT_EQ(launches().counters.shared_waves, launches().counters.least_shared_waves);
  }
}

TEST(PortableAttention, TilesOfAPromptAndItsAnswersHoldLittleBesideTheirArea) {
  constexpr int32_t kPrompt = 4096, kAnswer = 1024, kAnswers = 8;
  const TreeMask mask = test::prompt_and_answers(kPrompt, kAnswers, kAnswer);
  const TileTable table =
      tiles_by_query(mask_rows(mask.q_row, mask.k_row, mask.k_end, kPaddedRows), kQueryBlock, kKeysOfBackwardTile);
  const auto triangle = [](double rows) { return rows * (rows + 1) / 2; };
  const double area = triangle(kPrompt) + kAnswers * (triangle(kAnswer) + double{kPrompt} * kAnswer);
  EXPECT_LT(static_cast<double>(table.tile.size()) * kQueryBlock * kKeysOfBackwardTile, 1.04 * area);
}

}  // namespace
}  // namespace fpdist::kernels
