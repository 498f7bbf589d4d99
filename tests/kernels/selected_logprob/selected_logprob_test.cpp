// The laws of selected_logprob, on the device that test_device.hpp says.
#include "kernels/selected_logprob/selected_logprob.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>

#include "fpdist/core/error.hpp"
#include "fpdist/core/rng.hpp"
#include "tests/support/device/test_device.hpp"
#include "tests/support/laws/relative_error.hpp"

namespace fpdist {
namespace {

using test::here, test::Made, test::there;

/// On the CPU. Hidden rows have 16 columns: a GPU's bfloat16 products want multiples of 8.
struct Problem {
  at::Tensor hidden, weight, row, target, grad_logp, grad_entropy;
  double temperature;
};

Problem make_problem(uint64_t seed, int64_t rows, int64_t scores, int64_t vocabulary, at::ScalarType dtype) {
  at::manual_seed(seed);
  Rng rng(seed);
  std::vector<int64_t> row, target;
  for (int64_t s = 0; s < scores; ++s) {
    row.push_back(static_cast<int64_t>(rng.below(static_cast<uint64_t>(rows))));
    target.push_back(static_cast<int64_t>(rng.below(static_cast<uint64_t>(vocabulary))));
  }
  std::sort(row.begin(), row.end());
  const auto wide = dtype == at::kDouble ? at::kDouble : at::kFloat;
  const auto ids = [](const std::vector<int64_t>& v) { return at::tensor(at::ArrayRef<int64_t>(v), at::kLong); };
  return {at::randn({rows, 16}, at::kDouble).to(dtype),
          at::randn({vocabulary, 16}, at::kDouble).to(dtype),
          ids(row),
          ids(target),
          at::randn({scores}, wide),
          at::randn({rows}, wide),
          0.5 + rng.uniform()};
}

struct Result {
  at::Tensor logp, entropy, argmax, dh, dw;
};

/// Of the device's operators, on the CPU.
Result run(const Problem& p, bool with_entropy = true) {
  const at::Tensor hidden = there(p.hidden), weight = there(p.weight), row = there(p.row), target = there(p.target);
  auto [logp, entropy, argmax, lse] =
      kernels::selected_logprob(hidden, weight, row, target, p.temperature, std::nullopt);
  at::Tensor dw = at::zeros(p.weight.sizes(), logp.options());
  const at::Tensor dh = kernels::selected_logprob_backward(
      there(p.grad_logp), with_entropy ? std::optional(there(p.grad_entropy)) : std::nullopt, hidden, weight, row,
      target, lse, entropy, p.temperature, dw);
  return {here(logp), here(entropy), here(argmax), here(dh), here(dw)};
}

Result run_dense(const Problem& p, bool with_entropy = true) {
  const auto leaf = [](const at::Tensor& x) { return x.to(at::kDouble).detach().clone().requires_grad_(true); };
  const at::Tensor hidden = leaf(p.hidden), weight = leaf(p.weight);
  const at::Tensor all = at::log_softmax(at::matmul(hidden, weight.t()) / p.temperature, 1);
  const at::Tensor logp = all.index({p.row, p.target}), entropy = at::exp(all).mul(all).sum(1).neg();
  at::Tensor loss = (logp * p.grad_logp.to(at::kDouble)).sum();
  if (with_entropy) loss = loss + (entropy * p.grad_entropy.to(at::kDouble)).sum();
  const auto grads = torch::autograd::grad({loss}, {hidden, weight});
  return {logp.detach(), entropy.detach(), all.argmax(1), grads[0], grads[1]};
}

/// The device's results against float64.
void expect_dense(const Problem& p, bool with_entropy = true) {
  const Result own = run(p, with_entropy), dense = run_dense(p, with_entropy);
  const auto dtype = p.hidden.scalar_type(), sums = dtype == at::kDouble ? at::kDouble : at::kFloat;
  const auto limit = [&](Made made) { return test::tolerance(made, dtype); };
  EXPECT_LT(test::relative_error(own.logp, dense.logp), limit(Made::kSum));
  EXPECT_LT(test::relative_error(own.entropy, dense.entropy), limit(Made::kSum));
  EXPECT_TRUE(at::equal(own.argmax, dense.argmax));
  EXPECT_LT(test::relative_error(own.dh, dense.dh), limit(Made::kHiddenGradient));
  EXPECT_LT(test::relative_error(own.dw, dense.dw), limit(Made::kHeadGradient));
  EXPECT_EQ(own.dh.scalar_type(), dtype);
  for (const at::Tensor& x : {own.logp, own.entropy, own.dw}) EXPECT_EQ(x.scalar_type(), sums);
}

TEST(SelectedLogprob, EqualsLogSoftmaxInFloat64) {
  for (uint64_t seed = 0; seed < 12; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    const Problem p = make_problem(seed, 1 + static_cast<int64_t>(seed) * 3, 1 + static_cast<int64_t>(seed) * 5,
                                   seed % 2 ? 37 : 256, at::kDouble);
    expect_dense(p);
    expect_dense(p, /*with_entropy=*/false);
  }
}

TEST(SelectedLogprob, SeveralChunksGiveTheSameAsOne) {
  const Problem p = make_problem(3, 90, 200, 60000, at::kDouble);  // 43 MB of logits: more than one chunk
  expect_dense(p);
}

TEST(SelectedLogprob, Float32AndBfloat16StayWithinTheirRounding) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    for (const auto& [rows, scores, vocabulary] :
         {std::tuple{20, 30, 304}, {50, 90, 1000}, {1, 5, 301}, {7, 40, 5003}, {6, 9, 1}}) {
      SCOPED_TRACE(testing::Message() << dtype << " " << rows << " " << scores << " " << vocabulary);
      expect_dense(make_problem(2, rows, scores, vocabulary, dtype));
    }
  }
}

TEST(SelectedLogprob, ATargetOfNoColumnIsMinusInfinityAndCountsInItsRowsGradient) {
  // What a slice of the vocabulary sees of a target that another slice has.
  const Problem p = make_problem(5, 8, 20, 40, at::kDouble);
  const at::Tensor foreign = p.target.lt(20), own = p.target.masked_fill(foreign, -1);
  const auto [logit, lse, entropy, best, argmax] =
      kernels::partial_logprob(there(p.hidden), there(p.weight), there(p.row), there(own), p.temperature);
  const at::Tensor all = at::matmul(p.hidden, p.weight.t()) / p.temperature;
  EXPECT_TRUE(at::equal(at::isneginf(here(logit)), foreign));
  EXPECT_LT(test::relative_error(at::exp(here(logit)), at::exp(all.index({p.row, p.target})).masked_fill(foreign, 0.0)),
            1e-12);
  EXPECT_LT(test::relative_error(here(best), std::get<0>(all.max(1))), 1e-12);
  at::Tensor dw = at::zeros_like(there(p.weight));
  kernels::selected_logprob_backward(there(p.grad_logp), std::nullopt, there(p.hidden), there(p.weight), there(p.row),
                                     there(own), lse, entropy, p.temperature, dw);
  const at::Tensor counted = at::zeros({8}, at::kDouble).index_add(0, p.row, p.grad_logp);
  at::Tensor grad = at::softmax(all, 1) * -counted.unsqueeze(1);
  grad.index_put_({p.row, p.target}, p.grad_logp.masked_fill(foreign, 0.0), /*accumulate=*/true);
  EXPECT_LT(test::relative_error(here(dw), at::mm(grad.t(), p.hidden) / p.temperature), 1e-12);
}

TEST(SelectedLogprob, WhatForwardKeepsGivesBackwardTheSameBits) {
  for (const auto dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
    const Problem p = make_problem(6, 30, 50, 203, dtype);
    const at::Tensor hidden = there(p.hidden), weight = there(p.weight), row = there(p.row), target = there(p.target);
    const Result own = run(p);
    for (const bool is_relative : {true, false}) {
      SCOPED_TRACE(testing::Message() << dtype << (is_relative ? " log-probabilities" : " logits"));
      const auto kept = kernels::keeping_logprob(hidden, weight, row, target, p.temperature, is_relative);
      EXPECT_EQ(kept.logits.defined(), test::where().is_cpu() || dtype != at::kDouble);
      const at::Tensor lse_of_score = kept.lse.index_select(0, row);
      EXPECT_LT(test::relative_error(here(is_relative ? kept.logit : kept.logit - lse_of_score), own.logp),
                test::tolerance(Made::kSum, dtype));
      EXPECT_TRUE(at::equal(here(kept.entropy), own.entropy) && at::equal(here(kept.argmax), own.argmax));
      at::Tensor dw = there(at::zeros(p.weight.sizes(), own.dw.options()));
      const auto logits = kept.logits.defined() ? std::optional(kept.logits) : std::nullopt;
      const at::Tensor dh =
          kernels::selected_logprob_backward(there(p.grad_logp), there(p.grad_entropy), hidden, weight, row, target,
                                             kept.lse, kept.entropy, p.temperature, dw, true, logits);
      EXPECT_TRUE(at::equal(here(dh), own.dh) && at::equal(here(dw), own.dw));
    }
  }
}

TEST(SelectedLogprob, NoScoresAndNoRowsAreFine) {
  const Result no_scores = run(make_problem(1, 4, 0, 9, at::kDouble), false);
  EXPECT_EQ(no_scores.logp.numel(), 0);
  EXPECT_EQ(no_scores.dw.abs().sum().item<double>(), 0.0);
  const at::Tensor empty = there(at::empty({0}, at::kLong));
  auto [logp, entropy, argmax, lse] =
      kernels::selected_logprob(there(at::empty({0, 3})), there(at::randn({5, 3})), empty, empty, 1.0, std::nullopt);
  EXPECT_EQ(logp.numel() + entropy.numel() + argmax.numel() + lse.numel(), 0);
}

TEST(SelectedLogprob, RepeatsBitForBitAndARowIgnoresTheOthers) {
  Problem p = make_problem(8, 40, 70, 500, at::kFloat);
  const Result a = run(p), b = run(p);
  EXPECT_TRUE(at::equal(a.logp, b.logp) && at::equal(a.dh, b.dh) && at::equal(a.dw, b.dw));
  p.hidden = p.hidden.clone();
  p.hidden.slice(0, 20).normal_();
  const Result c = run(p);
  EXPECT_TRUE(at::equal(a.entropy.slice(0, 0, 20), c.entropy.slice(0, 0, 20)));
  EXPECT_TRUE(at::equal(a.dh.slice(0, 0, 20), c.dh.slice(0, 0, 20)));
}

TEST(SelectedLogprob, HugeLogitsStayFinite) {
  Problem p = make_problem(4, 6, 9, 50, at::kFloat);
  p.hidden = p.hidden * 100;
  const Result own = run(p);
  for (const at::Tensor& x : {own.logp, own.entropy, own.dh, own.dw}) EXPECT_TRUE(at::isfinite(x).all().item<bool>());
}

TEST(SelectedLogprob, RefusesWrongArguments) {
  Problem good = make_problem(1, 5, 6, 11, at::kFloat);
  for (at::Tensor* x : {&good.hidden, &good.weight, &good.row, &good.target}) *x = there(*x);
  const auto refuses = [&](const char* what, auto spoil) {
    Problem p = good;
    spoil(p);
    EXPECT_THROW(kernels::selected_logprob(p.hidden, p.weight, p.row, p.target, p.temperature, std::nullopt),
                 ShapeError)
        << what;
  };
  refuses("dtype", [](Problem& p) { p.weight = p.weight.to(at::kDouble); });
  refuses("columns", [](Problem& p) { p.weight = p.weight.slice(1, 1); });
  refuses("dims", [](Problem& p) { p.hidden = p.hidden.select(0, 0); });
  refuses("int32 rows", [](Problem& p) { p.row = p.row.to(at::kInt); });
  refuses("fewer targets", [](Problem& p) { p.target = p.target.slice(0, 1); });
  refuses("temperature", [](Problem& p) { p.temperature = 0; });
  refuses("rows elsewhere", [](Problem& p) { p.row = p.row.to(at::kMeta); });
  if (!test::where().is_cpu())
    return;  // what follows takes reading the tensors, for which a GPU would have to be waited
  refuses("unsorted rows", [](Problem& p) { p.row = at::tensor({3, 1, 2, 4, 4, 4}, at::kLong); });
  refuses("row outside", [](Problem& p) { p.row = p.row + 5; });
  refuses("target outside", [](Problem& p) { p.target = p.target - 11; });
}

}  // namespace
}  // namespace fpdist
