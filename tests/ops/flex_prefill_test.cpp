// FlexPrefill: blocks are those of the algorithm in plain loops, attention is over exactly these, and with all of them
// it is attention.
#include "src/ops/flex_prefill.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "fpdist/core/error.hpp"
#include "fpdist/core/rng.hpp"
#include "tests/ops/flex_prefill_model.hpp"
#include "tests/support/random/random_tensor.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::ops {
namespace {

test::Matrix rows_of(const at::Tensor& x) {
  const at::Tensor all = x.to(at::kDouble).contiguous();
  test::Matrix rows;
  for (int64_t r = 0; r < all.size(0); ++r)
    rows.emplace_back(all.const_data_ptr<double>() + r * all.size(1),
                      all.const_data_ptr<double>() + (r + 1) * all.size(1));
  return rows;
}

/// Queries and keys whose attention is anything between flat and peaked: some heads have keys that everybody looks at,
/// some look at what is near.
struct Head {
  at::Tensor q, k;
  Head(Rng& rng, int64_t queries, int64_t keys) {
    const auto sharpness = 6 * rng.uniform();
    q = test::random({queries, 8}) * sharpness, k = test::random({keys, 8});
    const auto sink = static_cast<int64_t>(rng.below(static_cast<uint64_t>(keys)));
    if (rng.below(2) == 0) k[sink] += q.mean(0) * 3;
    if (rng.below(2) == 0) q += k.narrow(0, keys - queries, queries) * sharpness;
    if (rng.below(4) == 0) q *= 0.05, k *= 0.05;
  }
};

FlexSearch random_search(Rng& rng) {
  FlexSearch search{
      .gamma = 0.3 + 0.69 * rng.uniform(), .tau = rng.below(3) == 0 ? 0 : 0.4 * rng.uniform(), .block = 8};
  search.min_budget = static_cast<int64_t>(rng.below(40));
  search.max_budget = rng.below(2) == 0 ? 0 : search.min_budget + static_cast<int64_t>(rng.below(60));
  return search;
}

TEST(FlexPrefill, KeepsTheBlocksThatTheAlgorithmKeeps) {
  int aware = 0, part = 0;
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    SCOPED_TRACE(seed);
    Rng rng(seed);
    at::manual_seed(seed);
    const FlexSearch search = random_search(rng);
    const auto before = static_cast<int64_t>(seed % 2 == 0 ? 0 : search.block * static_cast<int64_t>(rng.below(12)));
    const int64_t queries = 1 + static_cast<int64_t>(rng.below(150));
    const Head head(rng, queries, before + queries);
    const test::FlexModel model{search.gamma,
                                search.tau,
                                0.35,
                                static_cast<int>(search.min_budget),
                                static_cast<int>(search.max_budget),
                                static_cast<int>(search.block)};
    const auto expected = model(rows_of(head.q), rows_of(head.k));
    const KeyBlocks found = find_key_blocks(head.q, head.k, 0.35, search);
    EXPECT_EQ(found.seen, expected.seen);
    EXPECT_EQ(found.is_query_aware, expected.is_query_aware);
    aware += found.is_query_aware;
    size_t all = 0, kept = 0;
    for (size_t r = 0; r < found.seen.size(); ++r)
      all += static_cast<size_t>(before / search.block) + r + 1, kept += found.seen[r].size();
    part += kept < all;
  }
  EXPECT_GT(aware, 10);
  EXPECT_GT(part, 40);
}

/// Attention over the keys of the kept blocks by its definition, in float64.
at::Tensor masked(const kernels::AttentionInputs& in, double scale, const FlexSearch& search) {
  const int64_t rows = in.q.size(0), keys = in.k.size(0), first = keys - rows, group = in.q.size(1) / in.k.size(1);
  at::Tensor out = at::empty(in.q.sizes(), at::kDouble);
  for (int64_t h = 0; h < in.q.size(1); ++h) {
    const at::Tensor q = in.q.select(1, h), k = in.k.select(1, h / group);
    const KeyBlocks blocks = find_key_blocks(q, k, scale, search);
    at::Tensor hidden = at::ones({rows, keys}, at::kBool);
    for (int64_t i = 0; i < rows; ++i)
      for (const int32_t c : blocks.seen[static_cast<size_t>(i / search.block)]) {
        const int64_t from = c * search.block, to = std::min(first + i + 1, from + search.block);
        if (to > from) hidden[i].slice(0, from, to).fill_(false);
      }
    const auto exact = [](const at::Tensor& x) { return x.to(at::kDouble); };
    const at::Tensor scores = (at::matmul(exact(q), exact(k).t()) * scale).masked_fill(hidden, -INFINITY);
    out.select(1, h).copy_(at::matmul(at::softmax(scores, 1), exact(in.v.select(1, h / group))));
  }
  return out;
}

TEST(FlexPrefill, AttendsToTheKeptBlocksAndToNothingElse) {
  for (const auto dtype : {at::kDouble, at::kFloat}) {
    const kernels::AttentionInputs in{test::random({90, 4, 16}).to(dtype) * 3, test::random({130, 2, 16}).to(dtype),
                                      test::random({130, 2, 16}).to(dtype)};
    FlexSearch search{.gamma = 0.5, .tau = 0.1, .min_budget = 8, .block = 8};
    FlexArea area;
    const at::Tensor out = flex_prefill(in, 0.25, search, area);
    EXPECT_LT((out - masked(in, 0.25, search)).abs().max().item<double>(), dtype == at::kDouble ? 1e-12 : 1e-5);
    EXPECT_LT(area.kept, area.all);
    EXPECT_EQ(area.all, 4 * (6 + 17) * 12 / 2);
    // All blocks: attention.
    search.gamma = 1;
    FlexArea whole;
    const at::Tensor all = flex_prefill(in, 0.25, search, whole);
    EXPECT_EQ(whole.kept, whole.all);
    const at::Tensor later = at::ones({90, 130}, at::kBool).triu_(41);
    for (int64_t h = 0; h < 4; ++h) {
      const at::Tensor scores =
          (at::matmul(in.q.select(1, h), in.k.select(1, h / 2).t()) * 0.25).masked_fill(later, -INFINITY);
      const at::Tensor dense = at::matmul(at::softmax(scores, 1), in.v.select(1, h / 2));
      EXPECT_LT((all.select(1, h) - dense).abs().max().item<double>(), dtype == at::kDouble ? 1e-12 : 1e-5);
    }
  }
}

/// Blocks of whole panels, which the blocked kernels skip; windows that end anywhere in a block.
TEST(FlexPrefill, SkipsTheOtherBlocksWithoutGathering) {
  int part = 0;
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    SCOPED_TRACE(seed);
    Rng rng(seed);
    at::manual_seed(seed);
    const auto dtype = seed % 3 == 0 ? at::kBFloat16 : at::kFloat;
    const int64_t block = seed % 4 == 0 ? 128 : 64, before = block * static_cast<int64_t>(rng.below(4));
    const int64_t rows = seed == 1 ? 1 : 1 + static_cast<int64_t>(rng.below(600)), keys = before + rows;
    const int64_t key_heads = 1 + static_cast<int64_t>(rng.below(2)), group = 1 + static_cast<int64_t>(rng.below(3));
    const kernels::AttentionInputs in{test::random({rows, key_heads * group, 16}).to(dtype) * 3,
                                      test::random({keys, key_heads, 16}).to(dtype),
                                      test::random({keys, key_heads, 16}).to(dtype)};
    const FlexSearch search{.gamma = seed % 5 == 0 ? 1 : 0.2 + 0.5 * rng.uniform(),
                            .tau = seed % 2 == 0 ? 0.4 : 0,
                            .min_budget = static_cast<int64_t>(rng.below(100)),
                            .block = block};
    FlexArea area;
    const at::Tensor out = flex_prefill(in, 0.25, search, area);
    ASSERT_EQ(out.scalar_type(), dtype);
    EXPECT_LT((out - masked(in, 0.25, search)).abs().max().item<double>(), dtype == at::kFloat ? 1e-5 : 2e-2);
    part += area.kept < area.all;
  }
  EXPECT_GT(part, 4);
}

TEST(FlexPrefill, RefusesAWindowThatBeginsInsideABlock) {
  const at::Tensor k = test::random({30, 8});
  test::expect_words(test::error_of<ShapeError>([&] { find_key_blocks(k.narrow(0, 5, 25), k, 1, {.block = 8}); }),
                     {"a window of 25 rows behind 5 does not begin with a block of 8"});
}

}  // namespace
}  // namespace fpdist::ops
