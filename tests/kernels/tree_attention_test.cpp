#include "kernels/tree_attention/tree_attention.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>

#include "fpdist/core/error.hpp"
#include "support/pieces_of_mask.hpp"
#include "support/random_tree.hpp"

namespace fpdist {
namespace {

struct Problem {
  at::Tensor q, k, v, q_row, k_row, k_end, grad;
  double scale = 0.3;
};

/// Random tensors over the given rows; `end` is the whole forest's, by row number.
Problem make_problem(const std::vector<int32_t>& end, const std::vector<int32_t>& q_row,
                     const std::vector<int32_t>& k_row, int64_t key_heads, int64_t group, int64_t head_size,
                     at::ScalarType dtype = at::kDouble) {
  std::vector<int32_t> k_end;
  for (const int32_t row : k_row) k_end.push_back(end[static_cast<size_t>(row)]);
  const auto tq = static_cast<int64_t>(q_row.size()), tk = static_cast<int64_t>(k_row.size());
  const auto random = [&](int64_t rows, int64_t heads) {
    return at::randn({rows, heads, head_size}, at::kDouble).to(dtype);
  };
  return {random(tq, key_heads * group), random(tk, key_heads),   random(tk, key_heads),        test::int_tensor(q_row),
          test::int_tensor(k_row),       test::int_tensor(k_end), random(tq, key_heads * group)};
}

std::vector<int32_t> iota(int32_t rows) {
  std::vector<int32_t> row(static_cast<size_t>(rows));
  for (int32_t i = 0; i < rows; ++i) row[static_cast<size_t>(i)] = i;
  return row;
}

std::vector<int32_t> random_subset(Rng& rng, int32_t rows, double keep) {
  std::vector<int32_t> subset;
  for (int32_t row = 0; row < rows; ++row)
    if (rng.uniform() < keep) subset.push_back(row);
  return subset;
}

struct Result {
  at::Tensor out, lse, dq, dk, dv;
};

Result run_twin(const Problem& p) {
  auto [out, lse] = kernels::tree_attention(p.q, p.k, p.v, p.q_row, p.k_row, p.k_end, p.scale);
  auto [dq, dk, dv] =
      kernels::tree_attention_backward(p.grad, p.q, p.k, p.v, out, lse, p.q_row, p.k_row, p.k_end, p.scale);
  return {out, lse, dq, dk, dv};
}

Result run_dense(const Problem& p) {
  const auto leaf = [](const at::Tensor& x) { return x.to(at::kDouble).detach().clone().requires_grad_(true); };
  const at::Tensor q = leaf(p.q), k = leaf(p.k), v = leaf(p.v);
  auto [out, lse] = test::dense_attention(q, k, v, p.q_row, p.k_row, p.k_end, p.scale);
  if (out.numel() == 0 || k.numel() == 0)
    return {at::zeros_like(q), lse, at::zeros_like(q), at::zeros_like(k), at::zeros_like(v)};
  const auto grads = torch::autograd::grad({out}, {q, k, v}, {p.grad.to(at::kDouble)});
  return {out.detach(), lse.detach(), grads[0], grads[1], grads[2]};
}

void expect_equal(const Result& twin, const Result& dense, double tolerance) {
  EXPECT_LT(test::relative_error(twin.out, dense.out), tolerance);
  EXPECT_LT(test::relative_error(twin.dq, dense.dq), tolerance);
  EXPECT_LT(test::relative_error(twin.dk, dense.dk), tolerance);
  EXPECT_LT(test::relative_error(twin.dv, dense.dv), tolerance);
  EXPECT_TRUE(at::equal(at::isinf(twin.lse), at::isinf(dense.lse)));
  EXPECT_LT(test::relative_error(at::exp(twin.lse), at::exp(dense.lse)), tolerance);
}

bool same_bits(const at::Tensor& a, const at::Tensor& b) { return at::equal(a, b); }

TEST(TreeAttentionPieces, CoverTheMaskExactlyOnce) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Rng rng(seed);
    const auto rows = static_cast<int32_t>(1 + rng.below(40));
    const auto end = test::random_subtree_ends(rng, rows, 6);
    const auto q_row = random_subset(rng, rows, 0.7), k_row = random_subset(rng, rows, 0.7);
    std::vector<int32_t> k_end;
    for (const int32_t row : k_row) k_end.push_back(end[static_cast<size_t>(row)]);
    test::expect_pieces_cover_mask(q_row, k_row, k_end);
  }
}

TEST(TreeAttention, EqualsDenseMaskedSoftmaxOnRandomForests) {
  const std::vector<std::pair<int64_t, int64_t>> heads{{1, 1}, {2, 2}, {1, 4}, {3, 1}};
  for (uint64_t seed = 0; seed < 24; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    at::manual_seed(seed);
    Rng rng(seed, 1);
    const auto rows = static_cast<int32_t>(1 + rng.below(seed < 20 ? 60 : 400));
    const auto end = test::random_subtree_ends(rng, rows, seed % 3 == 0 ? 1 : 90);
    const auto [key_heads, group] = heads[seed % heads.size()];
    const Problem p = make_problem(end, iota(rows), iota(rows), key_heads, group, seed % 2 ? 8 : 5);
    expect_equal(run_twin(p), run_dense(p), 1e-12);
  }
}

TEST(TreeAttention, AcceptsAnySubsetOfQueriesAndKeys) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    at::manual_seed(seed);
    Rng rng(seed, 2);
    const auto end = test::random_subtree_ends(rng, 70, 20);
    const Problem p =
        make_problem(end, random_subset(rng, 70, 0.6), random_subset(rng, 70, seed % 5 ? 0.5 : 0.05), 2, 2, 8);
    expect_equal(run_twin(p), run_dense(p), 1e-12);
  }
}

TEST(TreeAttention, EmptyQueriesOrKeysGiveZerosAndMinusInfinity) {
  const auto end = test::fan_subtree_ends(3, 2, 2);
  const Result no_keys = run_twin(make_problem(end, iota(7), {}, 2, 1, 4));
  EXPECT_EQ(no_keys.out.abs().sum().item<double>(), 0.0);
  EXPECT_TRUE(at::isneginf(no_keys.lse).all().item<bool>());
  EXPECT_EQ(no_keys.dq.abs().sum().item<double>(), 0.0);
  const Result no_queries = run_twin(make_problem(end, {}, iota(7), 2, 1, 4));
  EXPECT_EQ(no_queries.out.numel(), 0);
  EXPECT_EQ(no_queries.dk.abs().sum().item<double>(), 0.0);
}

TEST(TreeAttention, PartialKeySetsMergeToTheWhole) {
  for (uint64_t seed = 0; seed < 10; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    at::manual_seed(seed);
    Rng rng(seed, 3);
    const auto end = test::random_subtree_ends(rng, 60, 25);
    const Problem whole = make_problem(end, iota(60), iota(60), 2, 2, 8);
    const Result expected = run_twin(whole);
    std::vector<int64_t> part[2];
    for (int64_t row = 0; row < 60; ++row) part[rng.below(2)].push_back(row);
    at::Tensor dq = at::zeros_like(whole.q), weight = at::zeros_like(expected.lse), out = at::zeros_like(expected.out);
    for (const auto& rows : part) {
      const at::Tensor pick = at::tensor(at::ArrayRef<int64_t>(rows), at::kLong);
      const auto at_rows = [&](const at::Tensor& x) { return x.index_select(0, pick); };
      const at::Tensor k = at_rows(whole.k), v = at_rows(whole.v), row = at_rows(whole.k_row), e = at_rows(whole.k_end);
      auto [o, l] = kernels::tree_attention(whole.q, k, v, whole.q_row, row, e, whole.scale);
      const at::Tensor share = at::exp(l - expected.lse);
      weight += share;
      out += o * share.unsqueeze(-1);
      auto [pq, pk, pv] = kernels::tree_attention_backward(whole.grad, whole.q, k, v, expected.out, expected.lse,
                                                           whole.q_row, row, e, whole.scale);
      dq += pq;
      EXPECT_LT(test::relative_error(pk, at_rows(expected.dk)), 1e-12);
      EXPECT_LT(test::relative_error(pv, at_rows(expected.dv)), 1e-12);
    }
    EXPECT_LT(test::relative_error(weight, at::ones_like(weight)), 1e-12);
    EXPECT_LT(test::relative_error(out, expected.out), 1e-12);
    EXPECT_LT(test::relative_error(dq, expected.dq), 1e-12);
  }
}

TEST(TreeAttention, Float32AndBfloat16StayWithinTheirRounding) {
  Rng rng(7);
  at::manual_seed(7);
  const auto end = test::random_subtree_ends(rng, 300, 80);
  // float32: sums of up to 300 products, each rounded at 2^-24; bfloat16 inputs are exact in float32, so the same
  // bound.
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    const Problem p = make_problem(end, iota(300), iota(300), 2, 2, 16, dtype);
    const Result twin = run_twin(p);
    EXPECT_EQ(twin.out.scalar_type(), at::kFloat);
    EXPECT_EQ(twin.lse.scalar_type(), at::kFloat);
    expect_equal(twin, run_dense(p), 1e-5);
  }
}

TEST(TreeAttention, LargeScoresNeitherOverflowNorLoseRows) {
  at::manual_seed(3);
  const auto end = test::fan_subtree_ends(40, 3, 20);
  Problem p = make_problem(end, iota(100), iota(100), 1, 2, 8);
  p.scale = 40;  // scores of several hundred
  const Result twin = run_twin(p), dense = run_dense(p);
  EXPECT_LT(test::relative_error(twin.out, dense.out), 1e-11);
  EXPECT_LT(test::relative_error(twin.lse, dense.lse), 1e-12);
  EXPECT_LT(test::relative_error(twin.dq, dense.dq), 1e-10);
}

TEST(TreeAttention, RepeatsBitForBit) {
  at::manual_seed(11);
  Rng rng(11);
  const auto end = test::random_subtree_ends(rng, 500, 120);
  const Problem p = make_problem(end, iota(500), iota(500), 2, 2, 32, at::kFloat);
  const Result a = run_twin(p), b = run_twin(p);
  EXPECT_TRUE(same_bits(a.out, b.out) && same_bits(a.lse, b.lse));
  EXPECT_TRUE(same_bits(a.dq, b.dq) && same_bits(a.dk, b.dk) && same_bits(a.dv, b.dv));
}

TEST(TreeAttention, ChangingOneBranchLeavesTheOthersBitIdentical) {
  for (const auto dtype : {at::kFloat, at::kDouble, at::kBFloat16}) {
    at::manual_seed(5);
    const auto end = test::fan_subtree_ends(100, 4, 37);
    Problem p = make_problem(end, iota(248), iota(248), 2, 2, 16, dtype);
    const Result before = run_twin(p);
    for (const at::Tensor& x : {p.q, p.k, p.v, p.grad}) x.slice(0, 137, 174).copy_(at::randn({37, x.size(1), 16}) * 3);
    const Result after = run_twin(p);
    for (const auto& [begin, stop] : {std::pair{0, 137}, {174, 248}}) {
      EXPECT_TRUE(same_bits(before.out.slice(0, begin, stop), after.out.slice(0, begin, stop)));
      EXPECT_TRUE(same_bits(before.lse.slice(0, begin, stop), after.lse.slice(0, begin, stop)));
      EXPECT_TRUE(same_bits(before.dq.slice(0, begin, stop), after.dq.slice(0, begin, stop)));
    }
    EXPECT_FALSE(same_bits(before.out.slice(0, 137, 174), after.out.slice(0, 137, 174)));
    EXPECT_TRUE(same_bits(before.dk.slice(0, 174, 248), after.dk.slice(0, 174, 248)));
  }
}

TEST(TreeAttention, StridedInputsGiveTheSameBits) {
  at::manual_seed(9);
  const auto end = test::fan_subtree_ends(50, 3, 11);
  Problem p = make_problem(end, iota(83), iota(83), 2, 2, 16, at::kFloat);
  const Result whole = run_twin(p);
  const auto strided = [](const at::Tensor& x) { return at::cat({x, at::randn_like(x)}, 1).slice(1, 0, x.size(1)); };
  p.q = strided(p.q), p.k = strided(p.k), p.v = strided(p.v), p.grad = strided(p.grad);
  const Result parts = run_twin(p);
  EXPECT_TRUE(same_bits(whole.out, parts.out) && same_bits(whole.dq, parts.dq) && same_bits(whole.dk, parts.dk));
}

TEST(TreeAttention, RefusesWrongArguments) {
  const auto end = test::fan_subtree_ends(4, 2, 2);
  const Problem good = make_problem(end, iota(8), iota(8), 2, 2, 4);
  const auto refuses = [&](const char* what, auto spoil) {
    Problem p = good;
    spoil(p);
    EXPECT_THROW(kernels::tree_attention(p.q, p.k, p.v, p.q_row, p.k_row, p.k_end, p.scale), ShapeError) << what;
  };
  refuses("mixed dtypes", [](Problem& p) { p.k = p.k.to(at::kFloat); });
  refuses("integer q", [](Problem& p) { p.q = p.q.to(at::kInt); });
  refuses("int64 rows", [](Problem& p) { p.q_row = p.q_row.to(at::kLong); });
  refuses("too few rows", [](Problem& p) { p.k_end = p.k_end.slice(0, 1); });
  refuses("heads not a multiple", [](Problem& p) { p.q = p.q.slice(1, 0, 3); });
  refuses("other head size", [](Problem& p) { p.q = p.q.slice(2, 0, 3); });
  refuses("k and v differ", [](Problem& p) { p.v = p.v.slice(0, 1); });
  refuses("two dims", [](Problem& p) { p.q = p.q.select(1, 0); });
  refuses("unsorted queries", [](Problem& p) { p.q_row = p.q_row.flip(0); });
  refuses("repeated keys", [](Problem& p) { p.k_row = at::zeros({8}, at::kInt); });
  refuses("end not above row", [](Problem& p) { p.k_end = p.k_row.clone(); });
  const Result r = run_twin(good);
  EXPECT_THROW(kernels::tree_attention_backward(good.grad, good.q, good.k, good.v, r.out, r.lse.slice(0, 1), good.q_row,
                                                good.k_row, good.k_end, 1.0),
               ShapeError);
  EXPECT_THROW(kernels::tree_attention_backward(good.grad, good.q, good.k, good.v, r.out.to(at::kFloat), r.lse,
                                                good.q_row, good.k_row, good.k_end, 1.0),
               ShapeError);
}

}  // namespace
}  // namespace fpdist
