// The kernels that decode on the PTX machine: right for random forests, group sizes and cuts, against float64; the same
// bits in every order of warps and blocks; keys and values read once a tile of queries; how keys are cut.
#include "tests/kernels/cuda/decode_case.hpp"

namespace fpdist::kernels {
namespace {

using test::DecodeCase, test::fresh_launches, test::launches, test::TreeMask;

constexpr Element kElements[] = {Element::kBFloat16, Element::kFloat32};

/// Of normal values: of float32 what its powers of two are approximated by.
double allowed(Element element) { return element == Element::kFloat32 ? 2e-6 : test::rounding(element); }

TEST(DecodeAttention, IsRightForAnyForestGroupAndCut) {
  struct Shape {
    test::HeadCounts heads;
    int32_t leaves, longest, room;
    int processors;
  };
  const Shape shapes[] = {{{4, 1, 64}, 9, 200, 40, 4},   {{2, 2, 64}, 5, 70, 300, 1},  {{7, 1, 128}, 12, 150, 30, 8},
                          {{14, 2, 64}, 3, 260, 9, 132}, {{3, 3, 128}, 1, 90, 70, 20}, {{16, 1, 64}, 6, 64, 64, 2},
                          {{1, 1, 64}, 80, 66, 3, 1}};
  for (size_t seed = 1; seed <= std::size(shapes); ++seed)
    for (const Element element : kElements) {
      const Shape& shape = shapes[seed - 1];
      SCOPED_TRACE(testing::Message() << "seed " << seed << ", " << shape.heads.query << ":" << shape.heads.key << ":"
                                      << shape.heads.size << ", float32 " << (element == Element::kFloat32));
      fresh_launches();
      DecodeCase decoding(test::decoding_forest(seed, shape.leaves, shape.longest, shape.room, seed % 3), shape.heads,
                          element, Element::kFloat32, shape.processors, seed % 2 == 0 ? 8 : 0);
      decoding.run();
      const auto [out, lse] = decoding.errors();
      EXPECT_LT(out, allowed(element));
      EXPECT_LT(lse, 1e-5);
    }
}

TEST(DecodeAttention, GivesTheSameBitsInEveryOrderAndRoundsWhereAsked) {
  const TreeMask mask = test::decoding_forest(11, 6, 150, 80);
  for (const Element element : kElements) {
    std::vector<std::vector<float>> results;
    for (const uint64_t seed : {0, 1, 2}) {
      fresh_launches(seed);
      DecodeCase decoding(mask, {4, 2, 64}, element, Element::kFloat32, 8);
      decoding.run();
      results.push_back(decoding.results());
    }
    EXPECT_EQ(results[1], results[0]);
    EXPECT_EQ(results[2], results[0]);
  }
  fresh_launches();
  DecodeCase rounded(mask, {4, 2, 64}, Element::kBFloat16, Element::kBFloat16, 8);
  rounded.run();
  EXPECT_LT(rounded.errors().out, 2 * test::rounding(Element::kBFloat16));
}

TEST(DecodeAttention, QueriesWithoutKeysAreZero) {
  TreeMask mask = test::decoding_forest(5, 3, 40, 20);
  mask.q_row.push_back(static_cast<int32_t>(mask.k_row.size()));  // beyond every subtree
  for (const Element element : kElements) {
    fresh_launches();
    DecodeCase decoding(mask, {2, 1, 64}, element, Element::kFloat32, 4);
    decoding.run();
    EXPECT_LT(decoding.errors().out, allowed(element));
    EXPECT_LT(decoding.errors().lse, 1e-5);
  }
}

/// Of what the tree holds, each key and value is asked for once where the queries under it fill one tile, for all query
/// heads together.
TEST(DecodeAttention, ReadsTheTreeOnce) {
  const TreeMask mask = test::decoding_forest(3, 8, 300, 60);
  for (const Element element : kElements)
    for (const int head : {64, 128}) {
      fresh_launches();
      const test::HeadCounts heads{2, 1, head};
      DecodeCase decoding(mask, heads, element, element, 16);
      decoding.run();
      uint64_t keys = 0;
      for (const Piece& piece : decoding.pieces()) keys += static_cast<uint64_t>(piece.k_end - piece.k_begin);
      const auto row = static_cast<uint64_t>(head * bytes_of(element)), queries = mask.q_row.size();
      const auto items = decoding.plan().item.size();
      const auto slots = static_cast<uint64_t>(decoding.plan().slots), parts = slots * 2 * (head + 1) * 4;
      EXPECT_EQ(slots, decoding.plan().part.size());
      // The merge reads each lse twice a thread, and of each query where its parts are: four bytes twice, and once a
      // part and a pass.
      const auto threads = static_cast<uint64_t>(2 * head / 4);
      const uint64_t merge =
          slots * threads * (2 * 4 + 16 + 2 * 4) + queries * threads * 2 * 4 + queries * 2 * (row + 4);
      const uint64_t chunks = items * 128 * 20 + 2 * keys * row + slots * 2 * row + parts;
      EXPECT_EQ(launches().counters.global_bytes, chunks + merge);
      EXPECT_EQ(launches().counters.launches, 2u);
    }
}

TEST(DecodeAttention, MeetsNoBankTwice) {
  for (const Element element : kElements)
    for (const int head : {64, 128}) {
      fresh_launches();
      DecodeCase decoding(test::decoding_forest(3, 8, 300, 60), {4, 1, head}, element, element, 16);
      decoding.run();
      EXPECT_EQ(launches().counters.shared_waves, launches().counters.least_shared_waves);
    }
}

/// Every piece whole, in parts that are whole steps but for its end; each query's parts ascend by their keys; as many
/// blocks as a card has room for, however the pieces are.
TEST(DecodePlan, CutsPiecesSoThatTheyFillACard) {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    const TreeMask mask = test::decoding_forest(seed, static_cast<int32_t>(1 + seed % 17), 900, 200);
    const std::vector<Piece> pieces = find_pieces(mask.q_row, mask.k_row, mask.k_end);
    const auto queries = static_cast<int64_t>(mask.q_row.size());
    const DecodeShape shape{.group = 4, .key_heads = 8, .rows_of_tile = 64};
    const DecodePlan plan = plan_decoding(pieces, queries, shape);
    std::vector<int> seen(static_cast<size_t>(queries) * mask.k_row.size());
    std::vector<const DecodeItem*> of_slot(static_cast<size_t>(plan.slots));
    for (const DecodeItem& item : plan.item) {
      EXPECT_LE(item.queries * shape.group, shape.rows_of_tile);
      for (int32_t query = item.query; query < item.query + item.queries; ++query) {
        const DecodeItem*& slot = of_slot.at(static_cast<size_t>(item.slot + query - item.query));
        EXPECT_EQ(slot, nullptr);
        slot = &item;
        for (int32_t key = item.key; key < item.key + item.keys; ++key)
          ++seen[static_cast<size_t>(query) * mask.k_row.size() + static_cast<size_t>(key)];
      }
    }
    for (int64_t query = 0; query < queries; ++query) {
      for (size_t key = 0; key < mask.k_row.size(); ++key)
        EXPECT_EQ(seen[static_cast<size_t>(query) * mask.k_row.size() + key],
                  mask.sees(query, static_cast<int64_t>(key)));
      int32_t last = -1;
      for (int32_t at = plan.part_begin[static_cast<size_t>(query)];
           at < plan.part_begin[static_cast<size_t>(query) + 1]; ++at) {
        const DecodeItem* const item = of_slot.at(static_cast<size_t>(plan.part[static_cast<size_t>(at)]));
        EXPECT_GT(item->key, last);
        last = item->key;
      }
    }
    EXPECT_EQ(plan.item, plan_decoding(pieces, queries, shape).item);
  }
  // One prompt of 4,096 rows, 16 completions: a card's blocks instead of one a head.
  const std::vector<Piece> one{{0, 16, 0, 4096, false}};
  EXPECT_EQ(plan_decoding(one, 16, {.group = 4, .key_heads = 8, .rows_of_tile = 64}).item.size(), 32u);
  // 128 completions of 512 rows, each alone, fill it uncut.
  std::vector<Piece> many;
  for (int64_t i = 0; i < 128; ++i) many.push_back({i, i + 1, 512 * i, 512 * (i + 1), false});
  EXPECT_EQ(plan_decoding(many, 128, {.group = 4, .key_heads = 8, .rows_of_tile = 64}).item.size(), 128u);
}

TEST(DecodeAttention, RefusesOtherHeadSizesAndFloat16) {
  DecodeArguments arguments{};
  arguments.q = {.rows = 1, .heads = 1, .size = 96};
  EXPECT_EQ(launch_decode_attention(arguments, nullptr), cudaErrorInvalidValue);
  arguments.q.size = 64, arguments.element = Element::kFloat16;
  EXPECT_EQ(launch_decode_attention(arguments, nullptr), cudaErrorInvalidValue);
}

}  // namespace
}  // namespace fpdist::kernels
