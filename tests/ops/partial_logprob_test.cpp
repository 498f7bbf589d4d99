#include "src/ops/partial_logprob.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/ops/functional.hpp"
#include "tests/support/laws/relative_error.hpp"

namespace fpdist::ops {
namespace {

using test::relative_error;

/// Cuts of a vocabulary of 13, empty slices included.
const std::vector<std::vector<int64_t>> kCuts{{13}, {5, 8}, {1, 0, 11, 1}, {0, 13, 0}};

struct Slice {
  int64_t begin;
  at::Tensor weight, target;
};

std::vector<Slice> slices_of(const at::Tensor& weight, const at::Tensor& target, const std::vector<int64_t>& cut) {
  std::vector<Slice> slices;
  int64_t begin = 0;
  for (const int64_t size : cut) {
    const at::Tensor local = target - begin;
    slices.push_back(
        {begin, weight.narrow(0, begin, size), local.masked_fill((local < 0).logical_or(local >= size), -1)});
    begin += size;
  }
  return slices;
}

TEST(OpsPartialLogprob, SlicesMergeToTheWholeVocabularyForwardAndBackward) {
  at::manual_seed(21);
  const auto random = [](at::IntArrayRef sizes) { return at::randn(sizes, at::kDouble); };
  const at::Tensor hidden = random({6, 4}), weight = random({13, 4}), dlogp = random({7}), dentropy = random({6});
  const at::Tensor row = at::tensor({0, 0, 1, 3, 3, 3, 5}, at::kLong), target = at::randint(13, {7}, at::kLong);
  const double temperature = 1.7;
  Parameter whole;
  whole.value = weight.clone().requires_grad_(true);
  whole.main_grad = at::zeros_like(weight);
  const at::Tensor h = hidden.clone().requires_grad_(true);
  const auto want = selected_logprob(h, whole, row, target, temperature);
  ((want.logp * dlogp).sum() + (want.entropy * dentropy).sum()).backward();
  for (const auto& cut : kCuts) {
    std::vector<at::Tensor> logit, lse, entropy, best, argmax;
    const auto slices = slices_of(weight, target, cut);
    for (const Slice& slice : slices) {
      const auto part = partial_logprob(hidden, slice.weight, row, slice.target, temperature);
      logit.push_back(part.logit), lse.push_back(part.lse), entropy.push_back(part.entropy);
      best.push_back(part.best), argmax.push_back(part.argmax + slice.begin);
    }
    const auto merged =
        merge_logprobs({at::stack(logit), at::stack(lse), at::stack(entropy), at::stack(best), at::stack(argmax)}, row);
    EXPECT_LT(relative_error(merged.logp, want.logp), 1e-13);
    EXPECT_LT(relative_error(merged.entropy, want.entropy), 1e-13);
    EXPECT_TRUE(at::equal(merged.argmax, want.argmax));
    at::Tensor d_hidden = at::zeros_like(hidden), dw = at::zeros_like(weight);
    for (const Slice& slice : slices)
      d_hidden += partial_logprob_backward(dlogp, dentropy, hidden, slice.weight, row, slice.target, merged,
                                           temperature, MainGrad(dw.narrow(0, slice.begin, slice.weight.size(0))));
    EXPECT_LT(relative_error(d_hidden, h.grad()), 1e-13);
    EXPECT_LT(relative_error(dw, whole.main_grad), 1e-13);
  }
}

TEST(OpsPartialLogprob, ATargetElsewhereHasNoLogitAndAnEmptySliceNothing) {
  const at::Tensor hidden = at::ones({2, 3}), weight = at::ones({2, 3});
  const at::Tensor row = at::tensor({0, 1}, at::kLong), target = at::tensor({-1, 1}, at::kLong);
  const auto part = partial_logprob(hidden, weight, row, target);
  EXPECT_TRUE(std::isinf(part.logit[0].item<float>()) && part.logit[0].item<float>() < 0);
  EXPECT_FLOAT_EQ(part.logit[1].item<float>(), 3.0f);
  EXPECT_FLOAT_EQ(part.best[0].item<float>(), 3.0f);
  const auto empty = partial_logprob(hidden, weight.narrow(0, 0, 0), row, at::full({2}, -1, at::kLong));
  EXPECT_TRUE(at::isneginf(empty.lse).all().item<bool>() && at::isneginf(empty.best).all().item<bool>());
  EXPECT_TRUE(empty.entropy.eq(0).all().item<bool>() && empty.argmax.eq(0).all().item<bool>());
}

TEST(OpsPartialLogprob, OnlyThePiecesTakeATargetElsewhere) {
  const at::Tensor hidden = at::ones({2, 3}), row = at::tensor({0, 1}, at::kLong);
  Parameter weight;
  weight.value = at::ones({4, 3});
  EXPECT_THROW(selected_logprob(hidden, weight, row, at::tensor({-1, 1}, at::kLong)), ShapeError);
  EXPECT_THROW(partial_logprob(hidden, weight.value, row, at::tensor({-2, 1}, at::kLong)), ShapeError);
  EXPECT_THROW(partial_logprob(hidden, weight.value, row, at::tensor({4, 1}, at::kLong)), ShapeError);
  EXPECT_THROW(merge_logprobs({at::ones({2}), at::ones({2}), at::ones({2}), at::ones({2}), row}, row), ShapeError);
}

}  // namespace
}  // namespace fpdist::ops
