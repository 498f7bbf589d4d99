#include "kernels/selected_logprob/selected_logprob.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>

#include "fpdist/core/error.hpp"
#include "support/random_tree.hpp"

namespace fpdist {
namespace {

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
  return {at::randn({rows, 12}, at::kDouble).to(dtype),
          at::randn({vocabulary, 12}, at::kDouble).to(dtype),
          ids(row),
          ids(target),
          at::randn({scores}, wide),
          at::randn({rows}, wide),
          0.5 + rng.uniform()};
}

struct Result {
  at::Tensor logp, entropy, argmax, dh, dw;
};

Result run_twin(const Problem& p, bool with_entropy = true) {
  auto [logp, entropy, argmax, lse] =
      kernels::selected_logprob(p.hidden, p.weight, p.row, p.target, p.temperature, std::nullopt);
  at::Tensor dw = at::zeros(p.weight.sizes(), logp.options());
  const at::Tensor dh =
      kernels::selected_logprob_backward(p.grad_logp, with_entropy ? std::optional(p.grad_entropy) : std::nullopt,
                                         p.hidden, p.weight, p.row, p.target, lse, entropy, p.temperature, dw);
  return {logp, entropy, argmax, dh, dw};
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

void expect_equal(const Result& a, const Result& b, double tolerance, double hidden_tolerance) {
  EXPECT_LT(test::relative_error(a.logp, b.logp), tolerance);
  EXPECT_LT(test::relative_error(a.entropy, b.entropy), tolerance);
  EXPECT_TRUE(at::equal(a.argmax, b.argmax));
  EXPECT_LT(test::relative_error(a.dh, b.dh), hidden_tolerance);
  EXPECT_LT(test::relative_error(a.dw, b.dw), tolerance);
}

TEST(SelectedLogprob, EqualsLogSoftmaxInFloat64) {
  for (uint64_t seed = 0; seed < 12; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    const Problem p = make_problem(seed, 1 + static_cast<int64_t>(seed) * 3, 1 + static_cast<int64_t>(seed) * 5,
                                   seed % 2 ? 37 : 256, at::kDouble);
    expect_equal(run_twin(p), run_dense(p), 1e-12, 1e-12);
    expect_equal(run_twin(p, false), run_dense(p, false), 1e-12, 1e-12);
  }
}

TEST(SelectedLogprob, SeveralChunksGiveTheSameAsOne) {
  const Problem p = make_problem(3, 90, 200, 60000, at::kDouble);  // 43 MB of logits: more than one chunk
  expect_equal(run_twin(p), run_dense(p), 1e-12, 1e-12);
}

TEST(SelectedLogprob, Float32AndBfloat16StayWithinTheirRounding) {
  // float32: 12 products and a sum over 301 tokens, each rounded at 2^-24. bfloat16 differs only where d_hidden is
  // rounded to it: 2^-9 of the largest element.
  expect_equal(run_twin(make_problem(1, 20, 30, 301, at::kFloat)), run_dense(make_problem(1, 20, 30, 301, at::kFloat)),
               1e-5, 1e-5);
  expect_equal(run_twin(make_problem(2, 20, 30, 301, at::kBFloat16)),
               run_dense(make_problem(2, 20, 30, 301, at::kBFloat16)), 1e-5, 4e-3);
}

TEST(SelectedLogprob, NoScoresAndNoRowsAreFine) {
  const Result no_scores = run_twin(make_problem(1, 4, 0, 9, at::kDouble), false);
  EXPECT_EQ(no_scores.logp.numel(), 0);
  EXPECT_EQ(no_scores.dw.abs().sum().item<double>(), 0.0);
  const auto empty = at::empty({0}, at::kLong);
  auto [logp, entropy, argmax, lse] =
      kernels::selected_logprob(at::empty({0, 3}), at::randn({5, 3}), empty, empty, 1.0, std::nullopt);
  EXPECT_EQ(logp.numel() + entropy.numel() + argmax.numel() + lse.numel(), 0);
}

TEST(SelectedLogprob, RepeatsBitForBitAndARowIgnoresTheOthers) {
  Problem p = make_problem(8, 40, 70, 500, at::kFloat);
  const Result a = run_twin(p), b = run_twin(p);
  EXPECT_TRUE(at::equal(a.logp, b.logp) && at::equal(a.dh, b.dh) && at::equal(a.dw, b.dw));
  p.hidden = p.hidden.clone();
  p.hidden.slice(0, 20).normal_();
  const Result c = run_twin(p);
  EXPECT_TRUE(at::equal(a.entropy.slice(0, 0, 20), c.entropy.slice(0, 0, 20)));
  EXPECT_TRUE(at::equal(a.dh.slice(0, 0, 20), c.dh.slice(0, 0, 20)));
}

TEST(SelectedLogprob, HugeLogitsStayFinite) {
  Problem p = make_problem(4, 6, 9, 50, at::kFloat);
  p.hidden = p.hidden * 100;
  const Result twin = run_twin(p);
  for (const at::Tensor& x : {twin.logp, twin.entropy, twin.dh, twin.dw})
    EXPECT_TRUE(at::isfinite(x).all().item<bool>());
}

TEST(SelectedLogprob, RefusesWrongArguments) {
  const Problem good = make_problem(1, 5, 6, 11, at::kFloat);
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
  refuses("unsorted rows", [](Problem& p) { p.row = at::tensor({3, 1, 2, 4, 4, 4}, at::kLong); });
  refuses("row outside", [](Problem& p) { p.row = p.row + 5; });
  refuses("target outside", [](Problem& p) { p.target = p.target - 11; });
  refuses("fewer targets", [](Problem& p) { p.target = p.target.slice(0, 1); });
  refuses("temperature", [](Problem& p) { p.temperature = 0; });
}

}  // namespace
}  // namespace fpdist
