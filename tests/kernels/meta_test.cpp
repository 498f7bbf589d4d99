// The operators on the Meta device give what the CPU twins give, less the elements.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "fpdist/core/error.hpp"
#include "fpdist/ops/functional.hpp"
#include "kernels/keyed_dropout/keyed_dropout.hpp"
#include "kernels/keyed_dropout/keyed_dropout_composed.hpp"
#include "kernels/linear/gemm_call.hpp"
#include "kernels/linear/linear.hpp"
#include "kernels/nf4/nf4.hpp"
#include "kernels/nf4/quantize.hpp"
#include "kernels/rms_norm/rms_norm.hpp"
#include "kernels/rms_norm/rms_norm_composed.hpp"
#include "kernels/rotary/rotary.hpp"
#include "kernels/rotary/rotary_composed.hpp"
#include "kernels/selected_logprob/chunked_logprob.hpp"
#include "kernels/selected_logprob/selected_logprob.hpp"
#include "kernels/swiglu/swiglu.hpp"
#include "kernels/swiglu/swiglu_composed.hpp"
#include "kernels/tree_attention/library/run_calls.hpp"
#include "kernels/tree_attention/tree_attention.hpp"
#include "src/ops/partial_logprob.hpp"
#include "tests/support/device/meta_aten.hpp"
#include "tests/support/random/random_tree.hpp"

namespace fpdist {
namespace {

at::Tensor on_meta(const at::Tensor& x) { return x.to(at::kMeta); }

void expect_alike(const at::Tensor& meta, const at::Tensor& real) {
  EXPECT_TRUE(meta.is_meta());
  EXPECT_EQ(meta.sizes(), real.sizes());
  EXPECT_EQ(meta.strides(), real.strides());
  EXPECT_EQ(meta.scalar_type(), real.scalar_type());
}

class Meta : public testing::TestWithParam<at::ScalarType> {
 protected:
  at::Tensor random(at::IntArrayRef sizes) const { return at::randn(sizes, at::kFloat).to(GetParam()); }
  at::ScalarType wide() const { return GetParam() == at::kDouble ? at::kDouble : at::kFloat; }
};
INSTANTIATE_TEST_SUITE_P(Dtypes, Meta, testing::Values(at::kFloat, at::kBFloat16, at::kDouble));

TEST_P(Meta, LinearHasTheTwinsShapes) {
  const at::Tensor x = random({5, 4}), w = random({3, 4}), b = random({3}), dy = random({5, 3});
  expect_alike(kernels::linear(on_meta(x), on_meta(w), on_meta(b), {}, {}), kernels::linear(x, w, b, {}, {}));
  expect_alike(kernels::wide_linear(on_meta(x), on_meta(w)), kernels::wide_linear(x, w));
  expect_alike(kernels::linear_backward_input(on_meta(dy), on_meta(w)), kernels::linear_backward_input(dy, w));
  at::Tensor sum = on_meta(at::zeros({3, 4}, wide()));
  kernels::linear_backward_weight(on_meta(dy), on_meta(x), sum);
  at::Tensor narrow = on_meta(at::zeros({2, 4}, wide()));
  EXPECT_THROW(kernels::linear_backward_weight(on_meta(dy), on_meta(x), narrow), ShapeError);
}

TEST_P(Meta, DequantizingHasTheTwinsShapes) {
  kernels::Nf4 matrix = kernels::quantize_nf4(at::randn({5, 70}), true);
  const at::Tensor real = kernels::dequantize_nf4(matrix, GetParam());
  for (at::Tensor* part : {&matrix.code, &matrix.absmax, &matrix.nested_absmax, &matrix.nested_map})
    *part = on_meta(*part);
  expect_alike(kernels::dequantize_nf4(matrix, GetParam()), real);
}

TEST_P(Meta, NormRotaryAndSwigluHaveTheTwinsShapes) {
  const at::Tensor x = random({5, 6}), w = random({6}), heads = random({5, 2, 6});
  const at::Tensor angle = at::randn({5, 3}, wide());
  expect_alike(kernels::rms_norm(on_meta(x), on_meta(w), 1e-6, {}), kernels::rms_norm(x, w, 1e-6, {}));
  const auto [dx, dw] = kernels::rms_norm_backward(on_meta(x), on_meta(x), on_meta(w), 1e-6);
  const auto [real_dx, real_dw] = kernels::rms_norm_backward(x, x, w, 1e-6);
  expect_alike(dx, real_dx);
  expect_alike(dw, real_dw);
  expect_alike(kernels::rotary(on_meta(heads), on_meta(angle), on_meta(angle), false),
               kernels::rotary(heads, angle, angle, false));
  expect_alike(kernels::swiglu(on_meta(x), on_meta(x)), kernels::swiglu(x, x));
  const at::Tensor key = at::arange(5, at::kLong);
  expect_alike(kernels::keyed_dropout(on_meta(x), on_meta(key), 1, 0.2, 0), kernels::keyed_dropout(x, key, 1, 0.2, 0));
  const auto [dg, du] = kernels::swiglu_backward(on_meta(x), on_meta(x), on_meta(x));
  expect_alike(dg, x);
  expect_alike(du, x);
}

TEST_P(Meta, LogprobHasTheTwinsShapes) {
  const at::Tensor h = random({4, 6}), w = random({9, 6});
  const at::Tensor row = at::tensor({0, 1, 1}, at::kLong), target = at::tensor({8, 0, 2}, at::kLong);
  const auto [logit, lse, entropy, best, argmax] = kernels::partial_logprob(h, w, row, target, 1.0);
  const auto meta = kernels::partial_logprob(on_meta(h), on_meta(w), on_meta(row), on_meta(target), 1.0);
  expect_alike(std::get<0>(meta), logit);
  expect_alike(std::get<1>(meta), lse);
  expect_alike(std::get<2>(meta), entropy);
  expect_alike(std::get<3>(meta), best);
  expect_alike(std::get<4>(meta), argmax);
  const auto whole = kernels::selected_logprob(on_meta(h), on_meta(w), on_meta(row), on_meta(target), 1.0, {});
  expect_alike(std::get<0>(whole), logit);
  expect_alike(std::get<2>(whole), argmax);
  expect_alike(kernels::selected_logprob_backward(on_meta(logit), std::nullopt, on_meta(h), on_meta(w), on_meta(row),
                                                  on_meta(target), on_meta(lse), on_meta(entropy), 1.0,
                                                  on_meta(at::zeros({9, 6}, wide()))),
               h);
}

TEST_P(Meta, TreeAttentionHasTheTwinsShapesWhereverItsRowNumbersAre) {
  const at::Tensor end = test::int_tensor(test::fan_subtree_ends(5, 3, 4)), row = at::arange(17, at::kInt);
  const at::Tensor q = random({17, 4, 6}), k = random({17, 2, 6});
  const kernels::AttentionInputs meta{on_meta(q), on_meta(k), on_meta(k)};
  const auto [out, lse] = kernels::tree_attention({q, k, k}, {row, row, end}, {});
  const auto output = kernels::tree_attention(meta, {row, row, end}, {});
  expect_alike(output.out, out);
  expect_alike(output.lse, lse);
  const auto [dq, dk, dv] = kernels::tree_attention_backward(meta.q, meta, output, {row, row, end}, {});
  expect_alike(dq, out);
  expect_alike(dk, at::zeros({17, 2, 6}, wide()));
  expect_alike(dv, at::zeros({17, 2, 6}, wide()));
  expect_alike(kernels::tree_attention(meta, {on_meta(row), on_meta(row), on_meta(end)}, {}).out, out);
  EXPECT_THROW(kernels::tree_attention(meta, {row.to(at::kLong), row, end}, {}), ShapeError);
}

TEST(MetaDevice, ABlockOfTheModelRunsForwardAndBackwardWithoutAskingForAValue) {
  const auto parameter = [](at::IntArrayRef sizes) {
    ops::Parameter made;
    made.name = "weight";
    made.value = on_meta(at::zeros(sizes, at::kBFloat16)).requires_grad_(true);
    made.main_grad = on_meta(at::zeros(sizes, at::kFloat));
    return made;
  };
  const auto table = parameter({11, 8}), norm = parameter({8}), up = parameter({8, 8}), bias = parameter({8});
  const at::Tensor row = at::arange(17, at::kInt), end = test::int_tensor(test::fan_subtree_ends(5, 3, 4));
  const at::Tensor angle = on_meta(at::zeros({17, 2}, at::kFloat));
  at::Tensor x = ops::embedding(on_meta(at::zeros({17}, at::kLong)), table);
  x = x + ops::linear(ops::rms_norm(x, norm, 1e-6), up, &bias);
  const at::Tensor heads = ops::rotary(x.view({17, 2, 4}), angle, angle);
  x = x + ops::tree_attention({heads, heads, heads}, {row, row, end}, {}).out.reshape({17, 8});
  x = ops::swiglu(x, x);
  const at::Tensor score = on_meta(at::zeros({6}, at::kLong));
  const auto scores = ops::selected_logprob(x, table, score, score);
  (scores.logp.sum() + scores.entropy.sum()).backward();
  EXPECT_THROW(scores.logp.sum().item<float>(), c10::Error);
}

TEST(MetaDevice, WhatAGpuRunsNeverAsksForAValue) {
  const auto zeros = [](at::IntArrayRef sizes, at::ScalarType dtype = at::kBFloat16) {
    return on_meta(at::zeros(sizes, dtype));
  };
  const at::Tensor end = test::int_tensor(test::fan_subtree_ends(5, 3, 4)), row = at::arange(34, at::kInt);
  // Two trees: rows are gathered.
  const kernels::AttentionCalls calls({row, row, at::cat({end, end + 17})}, at::kMeta, 0);
  const at::Tensor q = zeros({34, 4, 8}), k = zeros({34, 2, 8});
  const auto output = kernels::run_calls({q, k, k}, calls, {});
  EXPECT_EQ(kernels::run_calls_backward(q, {q, k, k}, output, calls, {}).k.sizes(), k.sizes());
  const at::Tensor hidden = zeros({10, 8}), weight = zeros({16, 8}), ids = zeros({7}, at::kLong);
  const kernels::LogitScores places{.row = ids, .target = ids, .temperature = 0.7};
  const kernels::ChunkWork work{.product = kernels::aten_product, .bytes = 3 * 16 * 4};
  const kernels::LogitResults made =
      kernels::chunked_logprob(hidden, weight, places, /*is_relative=*/true, work).results;
  at::Tensor wide = made.lse, dw = zeros({16, 8}, at::kFloat);
  const at::Tensor dh =
      kernels::chunked_logprob_backward({made.logit, wide, wide, made.entropy}, hidden, weight, places, dw, true, work);
  EXPECT_EQ(dh.sizes(), hidden.sizes());
  const at::Tensor x = zeros({10, 8}), w = zeros({8}), angle = zeros({34, 4}, at::kFloat);
  EXPECT_EQ(kernels::composed_rotary(q, angle, angle, true).sizes(), q.sizes());
  EXPECT_EQ(std::get<0>(kernels::composed_swiglu_backward(x, kernels::composed_swiglu(x, x), x)).sizes(), x.sizes());
  EXPECT_EQ(std::get<1>(kernels::composed_rms_norm_backward(x, x, w, 1e-6)).sizes(), w.sizes());
  EXPECT_EQ(kernels::composed_keyed_dropout(x, zeros({10}, at::kLong), 1, 0.2, 0).sizes(), x.sizes());
}

TEST(MetaDevice, MixedDevicesAreRefusedByName) {
  const at::Tensor x = at::zeros({3, 4}), meta = on_meta(x);
  EXPECT_THROW(kernels::linear(meta, x, {}, {}, {}), ShapeError);
  EXPECT_THROW(kernels::swiglu(meta, x), ShapeError);
  EXPECT_THROW(kernels::rms_norm(meta, at::zeros({4}), 1e-6, {}), ShapeError);
}

}  // namespace
}  // namespace fpdist
