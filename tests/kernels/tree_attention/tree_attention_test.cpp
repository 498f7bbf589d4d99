// The laws of tree_attention, on the device that test_device.hpp says.
#include "kernels/tree_attention/tree_attention.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>

#include "fpdist/core/error.hpp"
#include "kernels/tree_attention/merge.hpp"
#include "tests/support/device/test_device.hpp"
#include "tests/support/laws/dense_attention.hpp"
#include "tests/support/laws/relative_error.hpp"
#include "tests/support/random/random_tree.hpp"

namespace fpdist {
namespace {

using test::here, test::Made;

using kernels::AttentionInputs, kernels::AttentionMask;

/// On the CPU.
struct Problem {
  AttentionInputs in;
  AttentionMask mask;
  at::Tensor grad;
  double scale = 0.3;
};

AttentionInputs there(const AttentionInputs& in) { return {test::there(in.q), test::there(in.k), test::there(in.v)}; }

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
  const AttentionInputs in{random(tq, key_heads * group), random(tk, key_heads), random(tk, key_heads)};
  return {
      in, {test::int_tensor(q_row), test::int_tensor(k_row), test::int_tensor(k_end)}, random(tq, key_heads * group)};
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

/// Of the device's operators, on the CPU. Row numbers stay there throughout.
Result run(const Problem& p) {
  const AttentionInputs in = there(p.in);
  const auto output = kernels::tree_attention(in, p.mask, {.scale = p.scale});
  const auto [dq, dk, dv] =
      kernels::tree_attention_backward(test::there(p.grad), in, output, p.mask, {.scale = p.scale});
  return {here(output.out), here(output.lse), here(dq), here(dk), here(dv)};
}

Result run_dense(const Problem& p) {
  const auto leaf = [](const at::Tensor& x) { return x.to(at::kDouble).detach().clone().requires_grad_(true); };
  const at::Tensor q = leaf(p.in.q), k = leaf(p.in.k), v = leaf(p.in.v);
  const auto [out, lse] = test::dense_attention({q, k, v}, p.mask, p.scale);
  if (out.numel() == 0 || k.numel() == 0)
    return {at::zeros_like(q), lse, at::zeros_like(q), at::zeros_like(k), at::zeros_like(v)};
  const auto grads = torch::autograd::grad({out}, {q, k, v}, {p.grad.to(at::kDouble)});
  return {out.detach(), lse.detach(), grads[0], grads[1], grads[2]};
}

/// The device's results against float64, which has that of p's dtype to allow.
void expect_dense(const Problem& p) {
  const Result own = run(p), dense = run_dense(p);
  const auto dtype = p.in.q.scalar_type();
  for (const at::Tensor& x : {own.out, own.lse, own.dq, own.dk, own.dv})
    EXPECT_EQ(x.scalar_type(), dtype == at::kDouble ? at::kDouble : at::kFloat);
  EXPECT_LT(test::relative_error(own.out, dense.out), test::tolerance(Made::kAttention, dtype));
  EXPECT_TRUE(at::equal(at::isinf(own.lse), at::isinf(dense.lse)));
  EXPECT_LT(test::relative_error(at::exp(own.lse), at::exp(dense.lse)), test::tolerance(Made::kSum, dtype));
  for (const auto& [gradient, expected] :
       {std::pair{own.dq, dense.dq}, std::pair{own.dk, dense.dk}, std::pair{own.dv, dense.dv}})
    EXPECT_LT(test::relative_error(gradient, expected), test::tolerance(Made::kAttentionGradient, dtype));
}

/// Of float64, where a law is about nothing else.
constexpr double kExact = 1e-12;

bool same_bits(const at::Tensor& a, const at::Tensor& b) { return at::equal(a, b); }

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
    expect_dense(p);
  }
}

TEST(TreeAttention, AcceptsAnySubsetOfQueriesAndKeys) {
  for (uint64_t seed = 0; seed < 21; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    at::manual_seed(seed);
    Rng rng(seed, 2);
    const auto end = test::random_subtree_ends(rng, 70, 20);
    const auto q_row = random_subset(rng, 70, 0.6), k_row = random_subset(rng, 70, seed % 5 ? 0.5 : 0.05);
    for (const auto dtype : {at::kDouble, at::kFloat, at::kBFloat16, at::kHalf})
      expect_dense(make_problem(end, q_row, k_row, 2, 2, 8, dtype));
  }
}

TEST(TreeAttention, EmptyQueriesOrKeysGiveZerosAndMinusInfinity) {
  const auto end = test::fan_subtree_ends(3, 2, 2);
  const Result no_keys = run(make_problem(end, iota(7), {}, 2, 1, 4));
  EXPECT_EQ(no_keys.out.abs().sum().item<double>(), 0.0);
  EXPECT_TRUE(at::isneginf(no_keys.lse).all().item<bool>());
  EXPECT_EQ(no_keys.dq.abs().sum().item<double>(), 0.0);
  const Result no_queries = run(make_problem(end, {}, iota(7), 2, 1, 4));
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
    const Result expected = run(whole);
    const AttentionInputs all = there(whole.in);
    const at::Tensor grad = test::there(whole.grad);
    const kernels::AttentionOutput merged{test::there(expected.out), test::there(expected.lse)};
    kernels::AttentionOutput sum{at::zeros_like(merged.out), at::full_like(merged.lse, -INFINITY)};
    std::vector<int64_t> part[2];
    for (int64_t row = 0; row < 60; ++row) part[rng.below(2)].push_back(row);
    at::Tensor dq = at::zeros_like(whole.in.q);
    for (const auto& rows : part) {
      const at::Tensor pick = at::tensor(at::ArrayRef<int64_t>(rows), at::kLong);
      const auto at_rows = [&](const at::Tensor& x) { return x.index_select(0, pick); };
      const AttentionInputs in{all.q, test::there(at_rows(whole.in.k)), test::there(at_rows(whole.in.v))};
      const AttentionMask mask{whole.mask.q_row, at_rows(whole.mask.k_row), at_rows(whole.mask.k_end)};
      kernels::merge_attention(sum, kernels::tree_attention(in, mask, {.scale = whole.scale}));
      const auto [pq, pk, pv] = kernels::tree_attention_backward(grad, in, merged, mask, {.scale = whole.scale});
      dq += here(pq);
      EXPECT_LT(test::relative_error(here(pk), at_rows(expected.dk)), kExact);
      EXPECT_LT(test::relative_error(here(pv), at_rows(expected.dv)), kExact);
    }
    EXPECT_LT(test::relative_error(here(sum.lse), expected.lse), kExact);
    EXPECT_LT(test::relative_error(here(sum.out), expected.out), kExact);
    EXPECT_LT(test::relative_error(dq, expected.dq), kExact);
  }
}

TEST(TreeAttention, Float32AndBfloat16StayWithinTheirRounding) {
  for (const int64_t head_size : {16, 64, 128}) {
    for (const int64_t group : {1, 4}) {
      SCOPED_TRACE(testing::Message() << "head " << head_size << " group " << group);
      Rng rng(7, static_cast<uint64_t>(head_size));
      at::manual_seed(7);
      for (const auto& end : {test::random_subtree_ends(rng, 150, 80), test::fan_subtree_ends(100, 3, 40)}) {
        const auto rows = iota(static_cast<int32_t>(end.size()));
        for (const auto dtype : {at::kFloat, at::kBFloat16}) {
          Problem p = make_problem(end, rows, rows, 2, group, head_size, dtype);
          p.scale = 1 / std::sqrt(static_cast<double>(head_size));
          expect_dense(p);
        }
      }
    }
  }
}

TEST(TreeAttention, LargeScoresNeitherOverflowNorLoseRows) {
  at::manual_seed(3);
  const auto end = test::fan_subtree_ends(40, 3, 20);
  Problem p = make_problem(end, iota(100), iota(100), 1, 2, 8);
  p.scale = 40;  // scores of several hundred, whose errors come out multiplied by as much
  const Result own = run(p), dense = run_dense(p);
  EXPECT_LT(test::relative_error(own.out, dense.out), 10 * kExact);
  EXPECT_LT(test::relative_error(own.lse, dense.lse), kExact);
  EXPECT_LT(test::relative_error(own.dq, dense.dq), 100 * kExact);
}

TEST(TreeAttention, RepeatsBitForBit) {
  at::manual_seed(11);
  Rng rng(11);
  const auto end = test::random_subtree_ends(rng, 500, 120);
  const Problem p = make_problem(end, iota(500), iota(500), 2, 2, 32, at::kFloat);
  const Result a = run(p), b = run(p);
  EXPECT_TRUE(same_bits(a.out, b.out) && same_bits(a.lse, b.lse));
  EXPECT_TRUE(same_bits(a.dq, b.dq) && same_bits(a.dk, b.dk) && same_bits(a.dv, b.dv));
}

TEST(TreeAttention, ChangingOneBranchLeavesTheOthersBitIdentical) {
  for (const auto dtype : {at::kFloat, at::kDouble, at::kBFloat16}) {
    at::manual_seed(5);
    const auto end = test::fan_subtree_ends(100, 4, 37);
    Problem p = make_problem(end, iota(248), iota(248), 2, 2, 16, dtype);
    const Result before = run(p);
    for (const at::Tensor& x : {p.in.q, p.in.k, p.in.v, p.grad})
      x.slice(0, 137, 174).copy_(at::randn({37, x.size(1), 16}) * 3);
    const Result after = run(p);
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
  const Result whole = run(p);
  const auto strided = [](const at::Tensor& x) {  // there beforehand: on its way a tensor would be packed
    return test::there(at::cat({x, at::randn_like(x)}, 1)).slice(1, 0, x.size(1));
  };
  p.in = {strided(p.in.q), strided(p.in.k), strided(p.in.v)}, p.grad = strided(p.grad);
  const Result parts = run(p);
  EXPECT_TRUE(same_bits(whole.out, parts.out) && same_bits(whole.dq, parts.dq) && same_bits(whole.dk, parts.dk));
}

TEST(TreeAttention, RefusesWrongArguments) {
  const auto end = test::fan_subtree_ends(4, 2, 2);
  Problem good = make_problem(end, iota(8), iota(8), 2, 2, 4);
  good.in = there(good.in), good.grad = test::there(good.grad);
  const auto refuses = [&](const char* what, auto spoil) {
    Problem p = good;
    spoil(p);
    EXPECT_THROW(kernels::tree_attention(p.in, p.mask, {.scale = p.scale}), ShapeError) << what;
  };
  refuses("mixed dtypes", [](Problem& p) { p.in.k = p.in.k.to(at::kFloat); });
  refuses("integer q", [](Problem& p) { p.in.q = p.in.q.to(at::kInt); });
  refuses("int64 rows", [](Problem& p) { p.mask.q_row = p.mask.q_row.to(at::kLong); });
  refuses("too few rows", [](Problem& p) { p.mask.k_end = p.mask.k_end.slice(0, 1); });
  refuses("heads not a multiple", [](Problem& p) { p.in.q = p.in.q.slice(1, 0, 3); });
  refuses("other head size", [](Problem& p) { p.in.q = p.in.q.slice(2, 0, 3); });
  refuses("k and v differ", [](Problem& p) { p.in.v = p.in.v.slice(0, 1); });
  refuses("two dims", [](Problem& p) { p.in.q = p.in.q.select(1, 0); });
  refuses("unsorted queries", [](Problem& p) { p.mask.q_row = p.mask.q_row.flip(0); });
  refuses("repeated keys", [](Problem& p) { p.mask.k_row = at::zeros({8}, at::kInt); });
  refuses("end not above row", [](Problem& p) { p.mask.k_end = p.mask.k_row.clone(); });
  refuses("k elsewhere", [](Problem& p) { p.in.k = p.in.k.to(at::kMeta); });
  const auto [out, lse] = kernels::tree_attention(good.in, good.mask, {.scale = good.scale});
  const auto backward = [&](const kernels::AttentionOutput& merged) {
    return kernels::tree_attention_backward(good.grad, good.in, merged, good.mask, {});
  };
  EXPECT_THROW(backward({out, lse.slice(0, 1)}), ShapeError);
  EXPECT_THROW(backward({out.to(at::kFloat), lse}), ShapeError);
}

}  // namespace
}  // namespace fpdist
