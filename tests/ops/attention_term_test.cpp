#include "src/ops/attention_term.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>

#include "fpdist/ops/functional.hpp"
#include "tests/support/laws/dense_attention.hpp"
#include "tests/support/laws/relative_error.hpp"
#include "tests/support/random/random_tensor.hpp"
#include "tests/support/random/random_tree.hpp"

namespace fpdist::ops {
namespace {

using test::random, test::relative_error;

constexpr int64_t kHeads = 4, kKeyHeads = 2, kDim = 6, kTokens = 5;
constexpr AttentionOptions kOptions{.scale = 0.4};

ParameterPtr prefix(bool is_trained = true) {
  auto parameter = std::make_shared<Parameter>();
  parameter->value = random({kTokens, kKeyHeads * kDim}).set_requires_grad(is_trained);
  if (is_trained) parameter->main_grad = at::zeros_like(parameter->value);
  return parameter;
}

at::Tensor leaf(at::IntArrayRef sizes) { return random(sizes).set_requires_grad(true); }

/// A pack's rows, with the prefix's ahead of them.
struct Case {
  explicit Case(uint64_t seed) {
    Rng rng(seed);
    end = at::tensor(at::ArrayRef<int32_t>(test::random_subtree_ends(rng, rows, 7)), at::kInt);
    row = at::arange(rows, at::kInt);
    q = leaf({rows, kHeads, kDim}), k = leaf({rows, kKeyHeads, kDim}), v = leaf({rows, kKeyHeads, kDim});
  }
  /// By the definition, over real rows with lower numbers.
  at::Tensor dense(const at::Tensor& keys, const at::Tensor& values) const {
    const auto heads = [](const at::Tensor& all) { return all.view({kTokens, kKeyHeads, kDim}); };
    const AttentionMask all{row, at::cat({at::arange(-kTokens, 0, at::kInt), row}),
                            at::cat({at::full({kTokens}, rows, at::kInt), end})};
    return test::dense_attention({q, at::cat({heads(keys), k}), at::cat({heads(values), v})}, all, kOptions.scale).out;
  }
  at::Tensor with(const AttentionTermPtr& term) const {
    return attention_with_term({q, k, v}, {row, row, end}, kOptions, nullptr, term);
  }
  int32_t rows = 40;
  at::Tensor row, end, q, k, v;
};

TEST(PrefixTerm, IsKeysThatEveryRowSees) {
  for (uint64_t seed = 0; seed < 5; ++seed) {
    SCOPED_TRACE(seed);
    at::manual_seed(seed);
    const Case pack(seed);
    const ParameterPtr keys = prefix(), values = prefix();
    const auto term = prefix_term(keys, values, PrefixCalls::make(kTokens, pack.rows, at::kCPU));
    const at::Tensor got = pack.with(term), wanted = pack.dense(keys->value, values->value), grad = random(got.sizes());
    EXPECT_LT(relative_error(got, wanted), 1e-13);
    const auto gradients =
        torch::autograd::grad({wanted}, {pack.q, pack.k, pack.v, keys->value, values->value}, {grad});
    for (int pack_again = 0; pack_again < 2; ++pack_again) pack.with(term).backward(grad);
    EXPECT_LT(relative_error(pack.q.grad(), 2 * gradients[0]), 1e-12);
    EXPECT_LT(relative_error(pack.k.grad(), 2 * gradients[1]), 1e-12);
    EXPECT_LT(relative_error(pack.v.grad(), 2 * gradients[2]), 1e-12);
    EXPECT_LT(relative_error(keys->main_grad, 2 * gradients[3]), 1e-12);
    EXPECT_LT(relative_error(values->main_grad, 2 * gradients[4]), 1e-12);
    EXPECT_FALSE(keys->value.grad().defined());
  }
}

TEST(PrefixTerm, TrainsWhereNothingBelowIsTrained) {
  Case pack(3);
  for (at::Tensor* x : {&pack.q, &pack.k, &pack.v}) *x = x->detach();
  const ParameterPtr keys = prefix(), values = prefix();
  const auto calls = PrefixCalls::make(kTokens, pack.rows, at::kCPU);
  pack.with(prefix_term(keys, values, calls)).sum().backward();
  EXPECT_GT(keys->main_grad.norm().item<double>(), 0);
  EXPECT_GT(values->main_grad.norm().item<double>(), 0);
  EXPECT_FALSE(pack.with(prefix_term(prefix(false), prefix(false), calls)).requires_grad());
}

/// A rank of an Ulysses team has some of the heads, and its part of the gradients is zero elsewhere.
TEST(PrefixTerm, HeadsMayBeComputedInParts) {
  const Case pack(4);
  const ParameterPtr keys = prefix(), values = prefix();
  const auto term = prefix_term(keys, values, PrefixCalls::make(kTokens, pack.rows, at::kCPU));
  const auto empty = [&](const at::Tensor& q) {
    return AttentionOutput{at::zeros_like(q), at::full({q.size(0), q.size(1)}, -INFINITY, q.options())};
  };
  const at::NoGradGuard no_grad;
  AttentionOutput whole = empty(pack.q);
  term->merge(whole, pack.q, kOptions, {});
  for (int64_t part = 0; part < 2; ++part) {
    const at::Tensor q = pack.q.narrow(1, part * kHeads / 2, kHeads / 2).contiguous();
    AttentionOutput half = empty(q);
    term->merge(half, q, kOptions, {part, 2});
    EXPECT_TRUE(at::equal(half.out, whole.out.narrow(1, part * kHeads / 2, kHeads / 2)));
    for (const ParameterPtr& parameter : {keys, values}) {
      parameter->state = c10::make_intrusive<GradientState>();
      parameter->state->is_empty = true;  // whatever lies there
      parameter->main_grad.fill_(7);
    }
    at::Tensor dq = at::zeros_like(q);
    term->backward(at::ones_like(q), q, half, kOptions, {part, 2}, dq);
    EXPECT_EQ(values->main_grad.narrow(1, (1 - part) * kDim, kDim).abs().max().item<double>(), 0);
    EXPECT_NEAR(values->main_grad.sum().item<double>(), static_cast<double>(q.numel()), 1e-9);  // weights add up to 1
  }
  const auto none = PrefixCalls::make(kTokens, 0, at::kCPU);
  const at::Tensor nobody = at::empty({0, kHeads, kDim}, at::kDouble);
  AttentionOutput nothing = empty(nobody);
  prefix_term(keys, values, none)->merge(nothing, nobody, kOptions, {});
  EXPECT_EQ(nothing.out.size(0), 0);
}

ParameterPtr ntk_weight(at::IntArrayRef sizes, double scale) {
  auto parameter = std::make_shared<Parameter>();
  parameter->value = (scale * random(sizes)).set_requires_grad(true);
  parameter->main_grad = at::zeros_like(parameter->value);
  return parameter;
}

/// (sum_j e^s_j v_j + phi Z) / (sum_j e^s_j + phi |k|), by autograd.
at::Tensor dense_ntk(const Case& pack, const at::Tensor& values, const at::Tensor& keys) {
  const auto plain = test::dense_attention({pack.q, pack.k, pack.v}, {pack.row, pack.row, pack.end}, kOptions.scale);
  const at::Tensor phi = at::elu(pack.q / std::pow(kDim, 0.25)) + 1, sum = plain.lse.exp();
  const at::Tensor top = at::einsum("nhd,hde->nhe", {phi, values.view({kHeads, kDim, kDim})});
  const at::Tensor bottom = at::einsum("nhd,hd->nh", {phi, keys.abs()});
  return (plain.out * sum.unsqueeze(-1) + top) / (sum + bottom).unsqueeze(-1);
}

TEST(NtkTerm, IsItsFormula) {
  for (uint64_t seed = 0; seed < 5; ++seed) {
    SCOPED_TRACE(seed);
    at::manual_seed(seed);
    const Case pack(seed);
    const ParameterPtr values = ntk_weight({kHeads * kDim, kDim}, 0.5), keys = ntk_weight({kHeads, kDim}, 0.5);
    const auto term = ntk_term(values, keys);
    const at::Tensor got = pack.with(term), wanted = dense_ntk(pack, values->value, keys->value);
    const at::Tensor grad = random(got.sizes());
    EXPECT_LT(relative_error(got, wanted), 1e-13);
    const auto gradients =
        torch::autograd::grad({wanted}, {pack.q, pack.k, pack.v, values->value, keys->value}, {grad});
    pack.with(term).backward(grad);
    EXPECT_LT(relative_error(pack.q.grad(), gradients[0]), 1e-12);
    EXPECT_LT(relative_error(pack.k.grad(), gradients[1]), 1e-12);
    EXPECT_LT(relative_error(pack.v.grad(), gradients[2]), 1e-12);
    EXPECT_LT(relative_error(values->main_grad, gradients[3]), 1e-12);
    EXPECT_LT(relative_error(keys->main_grad, gradients[4]), 1e-12);
  }
}

TEST(NtkTerm, OfZerosIsNothingBitForBit) {
  const Case pack(6);
  const auto term = ntk_term(ntk_weight({kHeads * kDim, kDim}, 0), ntk_weight({kHeads, kDim}, 0));
  const AttentionMask mask{pack.row, pack.row, pack.end};
  EXPECT_TRUE(at::equal(pack.with(term), tree_attention({pack.q, pack.k, pack.v}, mask, kOptions).out));
}

TEST(NtkTerm, HeadsMayBeComputedInParts) {
  const Case pack(7);
  const ParameterPtr values = ntk_weight({kHeads * kDim, kDim}, 0.5), keys = ntk_weight({kHeads, kDim}, 0.5);
  const auto term = ntk_term(values, keys);
  const at::NoGradGuard no_grad;
  const at::Tensor other = random(pack.q.sizes()), lse = random({pack.rows, kHeads});
  AttentionOutput whole{other.clone(), lse.clone()};
  term->merge(whole, pack.q, kOptions, {});
  at::Tensor dq = at::zeros_like(pack.q);
  term->backward(other, pack.q, whole, kOptions, {}, dq);
  const at::Tensor whole_grad = values->main_grad.clone();
  values->main_grad.zero_();
  for (int64_t part = 0; part < 2; ++part) {
    const auto half = [&](const at::Tensor& all) { return all.narrow(1, part * kHeads / 2, kHeads / 2).contiguous(); };
    AttentionOutput mine{half(other), half(lse)};
    term->merge(mine, half(pack.q), kOptions, {part, 2});
    EXPECT_LT(relative_error(mine.out, half(whole.out)), 1e-14);
    at::Tensor own = at::zeros_like(mine.out);
    term->backward(half(other), half(pack.q), mine, kOptions, {part, 2}, own);
    EXPECT_LT(relative_error(own, half(dq)), 1e-13);
  }
  EXPECT_LT(relative_error(values->main_grad, whole_grad), 1e-13);
}

}  // namespace
}  // namespace fpdist::ops
