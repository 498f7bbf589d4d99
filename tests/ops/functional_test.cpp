#include "fpdist/ops/functional.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "fpdist/core/error.hpp"
#include "fpdist/ops/quantized_weight.hpp"
#include "src/ops/partial_attention.hpp"
#include "src/ops/partial_embedding.hpp"
#include "tests/support/laws/dense_attention.hpp"
#include "tests/support/laws/relative_error.hpp"
#include "tests/support/random/random_tensor.hpp"
#include "tests/support/random/random_tree.hpp"

namespace fpdist::ops {
namespace {

using test::random, test::wide;

Parameter make(at::Tensor value) {
  Parameter parameter;
  parameter.name = "weight";
  parameter.value = value.requires_grad_(true);
  parameter.main_grad = at::zeros(value.sizes(), value.options().dtype(accumulate_dtype(value.scalar_type())));
  return parameter;
}

TEST(OpsLinear, AddsWeightAndBiasGradientsOfEveryBackwardIntoTheMainGrads) {
  at::manual_seed(1);
  const Parameter weight = make(random({4, 3})), bias = make(random({4}));
  const at::Tensor x = random({6, 3}).requires_grad_(true), dy = random({6, 4});
  for (int pack = 0; pack < 2; ++pack) linear(x, weight, &bias).backward(dy);
  EXPECT_LT(test::relative_error(weight.main_grad, 2 * at::mm(dy.t(), x)), 1e-13);
  EXPECT_LT(test::relative_error(bias.main_grad, 2 * dy.sum(0)), 1e-13);
  EXPECT_LT(test::relative_error(x.grad(), 2 * at::mm(dy, weight.value)), 1e-13);
  EXPECT_FALSE(weight.value.grad().defined());
  EXPECT_FALSE(bias.value.grad().defined());
}

TEST(OpsLinear, TrainsTheFirstLayerWhoseInputNeedsNoGradient) {
  const Parameter weight = make(random({4, 3}));
  const at::Tensor x = random({6, 3});
  linear(x, weight).sum().backward();
  EXPECT_LT(test::relative_error(weight.main_grad, x.sum(0).expand({4, 3})), 1e-13);
}

TEST(OpsLinear, SkipsAFrozenParameterButPassesTheGradientOn) {
  Parameter weight = make(random({4, 3}));
  weight.main_grad.reset();
  const at::Tensor x = random({6, 3}).requires_grad_(true);
  linear(x, weight).sum().backward();
  EXPECT_FALSE(weight.value.grad().defined());
  EXPECT_LT(test::relative_error(x.grad(), weight.value.sum(0).expand({6, 3})), 1e-13);
  EXPECT_FALSE(linear(x.detach(), weight).requires_grad());
}

TEST(OpsLinear, Bfloat16GradientsAreAddedInFloat32) {
  // 256 packs of 1/256 each: a bfloat16 sum would stop growing at 1 - 2^-9 or drift; float32 gives 1 exactly.
  const Parameter weight = make(at::zeros({1, 1}, at::kBFloat16));
  const at::Tensor x = at::full({1, 1}, 1.0 / 256, at::kBFloat16);
  for (int pack = 0; pack < 257; ++pack) linear(x, weight).sum().backward();
  EXPECT_EQ(weight.main_grad.item<float>(), 257.0f / 256);
}

TEST(OpsLinear, RefusesAParameterWithoutAValue) { EXPECT_THROW(linear(random({2, 3}), Parameter{}), ShapeError); }

Parameter frozen(const at::Tensor& value) {
  Parameter parameter = make(value);
  parameter.main_grad.reset();
  return parameter;
}

TEST(OpsAdaptedLinear, IsTheLinearAndTheProductAndTrainsTheProductAlone) {
  at::manual_seed(2);
  const Parameter weight = frozen(random({5, 3})), bias = frozen(random({5}));
  Parameter a = make(random({2, 3})), b = make(random({5, 2}));
  const at::Tensor x = random({6, 3}).requires_grad_(true), residual = random({6, 5}).requires_grad_(true);
  const at::Tensor dy = random({6, 5}), dw = 1.5 * at::mm(dy.t(), x);  // of the product as one matrix
  const at::Tensor wanted = residual + bias.value + at::mm(x, (weight.value + 1.5 * at::mm(b.value, a.value)).t());
  const auto queue = c10::make_intrusive<WeightGradientQueue>();
  for (const bool deferred : {false, true}) {
    if (deferred) a.queue = b.queue = queue, queue->open(1);
    const at::Tensor y = adapted_linear(x, weight, {a, b, 1.5}, &bias, residual);
    EXPECT_LT(test::relative_error(y, wanted), 1e-13);
    y.backward(dy);
    queue->close();
    EXPECT_EQ(queue->pending(), deferred ? 2U : 0U);
    queue->run(1);
    const int times = deferred ? 2 : 1;
    EXPECT_LT(test::relative_error(a.main_grad, times * at::mm(b.value.t(), dw)), 1e-13);
    EXPECT_LT(test::relative_error(b.main_grad, times * at::mm(dw, a.value.t())), 1e-13);
    EXPECT_LT(test::relative_error(x.grad(), times * at::mm(dy, weight.value + 1.5 * at::mm(b.value, a.value))), 1e-13);
    EXPECT_LT(test::relative_error(residual.grad(), times * dy), 1e-13);
  }
  const at::Tensor first = adapted_linear(x.detach(), weight, {a, b, 1.5});
  EXPECT_TRUE(first.requires_grad());
  EXPECT_FALSE(adapted_linear(x.detach(), weight, {frozen(a.value), frozen(b.value), 1.5}).requires_grad());
}

TEST(OpsAdaptedLinear, AndLinearReadAPackedWeightWithoutGradients) {
  at::manual_seed(2);
  const auto floats = [](at::IntArrayRef sizes) { return at::randn(sizes, at::kFloat); };
  Parameter weight = frozen(floats({5, 3}));
  const Parameter bias = frozen(floats({5})), a = make(floats({2, 3})), b = make(floats({5, 2}));
  const at::Tensor x = floats({6, 3}), residual = floats({6, 5});
  const auto both = [&] {
    return at::stack({linear(x, weight, &bias, residual), adapted_linear(x, weight, {a, b, 1.5}, &bias, residual)});
  };
  const at::Tensor wanted = both().detach();
  set_packed(weight, true);
  if (!weight.packed) GTEST_SKIP() << "SKIPPED: this torch has no MKL";
  weight.value.detach().zero_();
  const at::Tensor of_values = both();
  EXPECT_GT(test::relative_error(of_values, wanted), 0.1) << "with gradients the value is read";
  const at::NoGradGuard no_grad;
  EXPECT_LT(test::relative_error(both(), wanted), 1e-6);
  set_packed(weight, false);
  EXPECT_TRUE(at::equal(both(), of_values));
}

TEST(OpsAdaptedLinear, DropsOfWhatTheProductSeesAlone) {
  at::manual_seed(3);
  const Parameter weight = frozen(random({5, 7}));
  Parameter a = make(random({2, 7})), b = make(random({5, 2}));
  const at::Tensor x = random({6, 7}).requires_grad_(true), dy = random({6, 5});
  const RowDropout drops{.key = at::arange(6, at::kLong), .stream = 4, .p = 0.4};
  const at::Tensor mask = dropped(at::ones({6, 7}, at::kDouble), drops), seen = (x * mask).detach();
  EXPECT_GT(mask.eq(0).sum().item<int64_t>(), 5);
  const auto queue = c10::make_intrusive<WeightGradientQueue>();
  a.queue = b.queue = queue, queue->open(1);
  const at::Tensor y = adapted_linear(x, weight, {a, b, 1.5}, nullptr, {}, drops);
  EXPECT_LT(test::relative_error(y, at::mm(x, weight.value.t()) + 1.5 * at::mm(at::mm(seen, a.value.t()), b.value.t())),
            1e-13);
  y.backward(dy);
  queue->close(), queue->run(1);
  const at::Tensor dw = 1.5 * at::mm(dy.t(), seen);
  EXPECT_LT(test::relative_error(a.main_grad, at::mm(b.value.t(), dw)), 1e-13);
  EXPECT_LT(test::relative_error(b.main_grad, at::mm(dw, a.value.t())), 1e-13);
  const at::Tensor through_pair = 1.5 * at::mm(at::mm(dy, b.value), a.value) * mask;
  EXPECT_LT(test::relative_error(x.grad(), at::mm(dy, weight.value) + through_pair), 1e-13);
  EXPECT_TRUE(dropped(x, {}).is_same(x));
  EXPECT_THROW(dropped(x, {.key = {}, .p = 0.1}), ShapeError);
  EXPECT_THROW(adapted_linear(x, weight, {a, b, 1.5}, nullptr, {}, {.key = {}, .p = 0.1}), ShapeError);
}

TEST(OpsQuantized, IsItsDenseWeightBitForBitAndIsKeptByNoGraph) {
  at::manual_seed(4);
  const auto weight = std::make_shared<QuantizedWeight>();
  weight->matrix = quantize(random({8, 64}, at::kFloat), true), weight->dtype = at::kFloat;
  Parameter quantized;
  quantized.name = "weight", quantized.quantized = weight;
  const Parameter dense = frozen(frozen_value(quantized));
  EXPECT_EQ(sizes_of(quantized), sizes_of(dense));
  const Parameter a = make(random({2, 64}, at::kFloat)), b = make(random({8, 2}, at::kFloat)),
                  bias = frozen(random({8}, at::kFloat));
  const at::Tensor dy = random({5, 8}, at::kFloat), residual = random({5, 8}, at::kFloat);
  const auto both = [&](const Parameter& used, bool adapted) {
    const at::Tensor x = at::arange(320, at::kFloat).view({5, 64}).div(300).requires_grad_(true);
    const at::Tensor y =
        adapted ? adapted_linear(x, used, {a, b, 1.5}, &bias, residual) : linear(x, used, &bias, residual);
    const auto held = weight.use_count();
    EXPECT_EQ(held > 2, used.quantized != nullptr);  // the node names it, and holds no tensor of its size
    y.backward(dy);
    return std::pair{y.detach(), x.grad()};
  };
  for (const bool adapted : {false, true}) {
    const auto [y, dx] = both(quantized, adapted);
    const auto [wanted, wanted_dx] = both(dense, adapted);
    EXPECT_TRUE(at::equal(y, wanted) && at::equal(dx, wanted_dx));
  }
  EXPECT_TRUE(at::equal(row_squares(at::ones({8}, at::kFloat), quantized, {a, b, 2}),
                        row_squares(at::ones({8}, at::kFloat), dense, {a, b, 2})));
  Parameter empty = quantized;
  empty.quantized = std::make_shared<QuantizedWeight>();
  EXPECT_THROW(linear(residual, empty), ShapeError);
  EXPECT_THROW(store(empty, weight->matrix), ShapeError);
  empty.quantized = nullptr;
  EXPECT_THROW(store(empty, weight->matrix), ShapeError);
}

TEST(OpsAdaptedLinear, ComputesInTheAdaptersOwnDtypeBesideABfloat16Model) {
  at::manual_seed(5);
  const Parameter weight = frozen(random({5, 7}, at::kBFloat16));
  const Parameter a = make(random({2, 7}, at::kFloat)), b = make(random({5, 2}, at::kFloat));
  const at::Tensor x = random({6, 7}, at::kBFloat16).requires_grad_(true), dy = random({6, 5}, at::kBFloat16);
  const at::Tensor y = adapted_linear(x, weight, {a, b, 1.5});
  const at::Tensor in_float = x.detach().to(at::kFloat), base = linear(x.detach(), weight).to(at::kFloat);
  const at::Tensor product = 1.5 * at::mm(at::mm(in_float, a.value.t()), b.value.t());
  EXPECT_EQ(y.scalar_type(), at::kBFloat16);
  EXPECT_LT(test::relative_error((base + product).to(at::kBFloat16), y), 4e-3);  // a bit of the one rounding
  y.backward(dy);
  const at::Tensor dw = 1.5 * at::mm(dy.to(at::kFloat).t(), in_float);
  EXPECT_EQ(a.main_grad.scalar_type(), at::kFloat);
  EXPECT_LT(test::relative_error(a.main_grad, at::mm(b.value.t(), dw)), 1e-6);
  EXPECT_LT(test::relative_error(b.main_grad, at::mm(dw, a.value.t())), 1e-6);
  EXPECT_EQ(x.grad().scalar_type(), at::kBFloat16);
}

TEST(OpsScaledColumns, DoraEqualsItsFormulaAndItsGradients) {
  at::manual_seed(5);
  const Parameter weight = frozen(random({5, 3})), a = make(random({2, 3})), b = make(random({5, 2})),
                  bias = frozen(random({5}));
  const Parameter magnitude = make(random({5}));
  const at::Tensor x = random({6, 3}).requires_grad_(true), residual = random({6, 5}).requires_grad_(true);
  const at::Tensor dy = random({6, 5}), whole = (weight.value + 0.7 * at::mm(b.value, a.value)).detach();
  const at::Tensor norm = row_squares(weight.value.detach().square().sum(1), weight, {a, b, 0.7}).sqrt();
  EXPECT_LT(test::relative_error(norm, whole.square().sum(1).sqrt()), 1e-13);
  const at::Tensor y = scaled_columns(adapted_linear(x, weight, {a, b, 0.7}), magnitude, norm, &bias, residual);
  const at::Tensor factor = magnitude.value.detach() / norm, z = at::mm(x, whole.t()).detach();
  EXPECT_LT(test::relative_error(y, z * factor + bias.value + residual), 1e-13);
  y.backward(dy);
  const at::Tensor dw = 0.7 * at::mm((dy * factor).t(), x);
  EXPECT_LT(test::relative_error(magnitude.main_grad, (dy * z).sum(0) / norm), 1e-13);
  EXPECT_LT(test::relative_error(a.main_grad, at::mm(b.value.t(), dw)), 1e-13);
  EXPECT_LT(test::relative_error(b.main_grad, at::mm(dw, a.value.t())), 1e-13);
  EXPECT_LT(test::relative_error(x.grad(), at::mm(dy * factor, whole)), 1e-13);
  EXPECT_LT(test::relative_error(residual.grad(), dy), 1e-13);
  EXPECT_THROW(scaled_columns(y, a, norm), ShapeError);
}

TEST(OpsAdaptedLinear, RefusesWhatDoesNotFit) {
  const at::Tensor x = random({2, 3});
  const Parameter weight = frozen(random({5, 3})), a = make(random({2, 3})), b = make(random({5, 2}));
  EXPECT_THROW(adapted_linear(x, make(random({5, 3})), {a, b, 1}), ShapeError);
  EXPECT_THROW(adapted_linear(x, weight, {b, a, 1}), ShapeError);
  EXPECT_THROW(adapted_linear(x, weight, {a, make(random({5, 2}).to(at::kFloat)), 1}), ShapeError);
  EXPECT_THROW(adapted_linear(x, weight, {a, Parameter{}, 1}), ShapeError);
}

TEST(OpsEmbedding, AddsRowsOfRepeatedTokens) {
  const Parameter weight = make(random({5, 130}));
  const at::Tensor token = at::tensor({3, 1, 3, 0}, at::kLong), dy = random({4, 130});
  const at::Tensor y = embedding(token, weight);
  EXPECT_TRUE(at::equal(y, weight.value.index_select(0, token)));
  y.backward(dy);
  EXPECT_LT(test::relative_error(weight.main_grad, at::zeros({5, 130}, at::kDouble).index_add(0, token, dy)), 1e-14);
  EXPECT_FALSE(weight.value.grad().defined());
}

TEST(OpsEmbedding, SlicesOfTheVocabularyAddUpToTheWhole) {
  at::manual_seed(8);
  const at::Tensor table = random({7, 4}), token = at::tensor({6, 1, 3, 1, 0}, at::kLong), dy = random({5, 4});
  const Parameter whole = make(table.clone());
  embedding(token, whole).backward(dy);
  at::Tensor sum = at::zeros({5, 4}, at::kDouble);
  for (const auto& [begin, stop] : {std::pair{0, 3}, {3, 3}, {3, 7}}) {
    const Parameter slice = make(table.slice(0, begin, stop).clone());
    const at::Tensor local = token - begin;
    const at::Tensor ids = local.masked_fill(local.lt(0).logical_or(local.ge(stop - begin)), -1);
    const at::Tensor rows = partial_embedding(ids, slice);
    sum += rows.detach();
    rows.backward(dy);
    EXPECT_TRUE(at::equal(slice.main_grad, whole.main_grad.slice(0, begin, stop)));
    EXPECT_FALSE(slice.value.grad().defined());
  }
  EXPECT_TRUE(at::equal(sum, table.index_select(0, token)));
}

TEST(OpsEmbedding, WhatAGpuRunsAddsTheSameRows) {
  // A main grad that is not contiguous takes that way on the CPU.
  at::manual_seed(9);
  const at::Tensor token = at::tensor({4, 1, -1, 1, 0, -1}, at::kLong), dy = random({6, 3});
  Parameter plain = make(random({5, 3})), strided = plain;
  strided.main_grad = at::zeros({3, 5}, at::kDouble).t();
  partial_embedding(token, plain).backward(dy);
  partial_embedding(token, strided).backward(dy);
  EXPECT_LT(test::relative_error(strided.main_grad, plain.main_grad), 1e-14);
  EXPECT_GT(plain.main_grad.abs().sum().item<double>(), 0.0);
  strided.main_grad.zero_(), plain.main_grad.zero_();
  const at::Tensor all = token.clamp_min(0);
  embedding(all, plain).backward(dy);
  embedding(all, strided).backward(dy);
  EXPECT_LT(test::relative_error(strided.main_grad, plain.main_grad), 1e-14);
}

TEST(OpsEmbedding, RefusesWrongTokens) {
  const Parameter weight = make(random({5, 2}));
  EXPECT_THROW(embedding(at::zeros({2}, at::kInt), weight), ShapeError);
  EXPECT_THROW(embedding(at::zeros({2, 2}, at::kLong), weight), ShapeError);
}

at::Tensor norm_by_formula(const at::Tensor& x, const at::Tensor& weight) {
  const at::Tensor wide = x.to(accumulate_dtype(x.scalar_type()));
  return weight * (wide * at::rsqrt(wide.square().mean(-1, true) + 1e-6)).to(x.scalar_type());
}

TEST(OpsRmsNorm, EqualsTheFormulaAndItsGradients) {
  for (const int64_t width : {1, 7, 16, 70}) {
    SCOPED_TRACE(testing::Message() << "width " << width);
    at::manual_seed(2);
    const Parameter weight = make(random({width}));
    const at::Tensor x = random({75, width}).requires_grad_(true), dy = random({75, width});
    const at::Tensor y = rms_norm(x, weight, 1e-6), expected = norm_by_formula(x, weight.value);
    EXPECT_LT(test::relative_error(y, expected), 1e-13);
    const auto grads = torch::autograd::grad({expected}, {x, weight.value}, {dy});
    y.backward(dy);
    EXPECT_LT(test::relative_error(x.grad(), grads[0]), 1e-12);
    EXPECT_LT(test::relative_error(weight.main_grad, grads[1]), 1e-12);
    EXPECT_FALSE(weight.value.grad().defined());
  }
}

TEST(OpsRmsNorm, RoundsLikeTransformersInBfloat16) {
  at::manual_seed(3);
  const Parameter weight = make(random({64}, at::kBFloat16));
  const at::Tensor x = random({40, 64}, at::kBFloat16);
  // The mean is summed in another order: at most a few values fall on the other side of a rounding boundary.
  const at::Tensor differs = rms_norm(x, weight, 1e-6).ne(norm_by_formula(x, weight.value));
  EXPECT_LT(differs.sum().item<int64_t>(), 40 * 64 / 100);
}

TEST(OpsRmsNorm, WithoutAMainGradTheGradientArrivesInGrad) {
  Parameter weight = make(random({5}));
  weight.main_grad.reset();
  rms_norm(random({3, 5}), weight, 1e-6).sum().backward();
  EXPECT_TRUE(weight.value.grad().defined());
}

TEST(OpsRmsNorm, RefusesAWrongWidth) {
  EXPECT_THROW(rms_norm(random({3, 5}), make(random({4})), 1e-6), ShapeError);
  EXPECT_THROW(rms_norm(random({3, 5}), make(random({5}, at::kFloat)), 1e-6), ShapeError);
}

TEST(OpsPointwise, RotaryAndSwigluPassGradientsToTheirInputs) {
  at::manual_seed(4);
  const at::Tensor x = random({4, 2, 6}).requires_grad_(true), angle = random({4, 3}), dy = random({4, 2, 6});
  rotary(x, at::cos(angle), at::sin(angle)).backward(dy);
  EXPECT_LT(test::relative_error(x.grad(), rotary(dy, at::cos(angle), -at::sin(angle))), 1e-13);
  const at::Tensor gate = random({4, 5}).requires_grad_(true), up = random({4, 5}).requires_grad_(true);
  const auto expected = torch::autograd::grad({(at::silu(gate) * up).sum()}, {gate, up});
  swiglu(gate, up).sum().backward();
  EXPECT_LT(test::relative_error(gate.grad(), expected[0]), 1e-13);
  EXPECT_LT(test::relative_error(up.grad(), expected[1]), 1e-13);
}

TEST(OpsTreeAttention, ReturnsTheModelDtypeAndDifferentiates) {
  at::manual_seed(5);
  const at::Tensor end = test::int_tensor(test::fan_subtree_ends(5, 3, 4)), row = at::arange(17, at::kInt);
  const at::Tensor q = random({17, 4, 6}).requires_grad_(true), k = random({17, 2, 6}).requires_grad_(true);
  const at::Tensor v = random({17, 2, 6}).requires_grad_(true), dy = random({17, 4, 6});
  const at::Tensor dense = test::dense_attention({q, k, v}, {row, row, end}, 0.5).out;
  const auto expected = torch::autograd::grad({dense}, {q, k, v}, {dy});
  const auto [out, lse] = tree_attention({q, k, v}, {row, row, end}, {.scale = 0.5});
  out.backward(dy);
  EXPECT_LT(test::relative_error(q.grad(), expected[0]), 1e-12);
  EXPECT_LT(test::relative_error(k.grad(), expected[1]), 1e-12);
  EXPECT_LT(test::relative_error(v.grad(), expected[2]), 1e-12);
  EXPECT_FALSE(lse.requires_grad());
  const auto low = [](const at::Tensor& x) { return x.detach().to(at::kBFloat16); };
  const auto [low_out, low_lse] = tree_attention({low(q), low(k), low(v)}, {row, row, end}, {.scale = 0.5});
  EXPECT_EQ(low_out.scalar_type(), at::kBFloat16);
  EXPECT_EQ(low_lse.scalar_type(), at::kFloat);
}

TEST(OpsPartialAttention, MergesPartsAndKeepsRowsWithoutKeysEmpty) {
  at::manual_seed(6);
  const at::Tensor end = test::int_tensor(test::fan_subtree_ends(5, 3, 4)), row = at::arange(17, at::kInt);
  const at::Tensor q = random({17, 2, 6}), k = random({17, 2, 6}), v = random({17, 2, 6});
  const AttentionOptions options{.scale = 0.5};
  const AttentionOutput whole = partial_attention({q, k, v}, {row, row, end}, options);
  const AttentionOutput nothing{at::zeros_like(whole.out), at::full_like(whole.lse, -INFINITY)};
  AttentionOutput sum{nothing.out.clone(), nothing.lse.clone()};
  merge_attention(sum, nothing);
  EXPECT_TRUE(at::equal(sum.out, nothing.out));
  EXPECT_TRUE(at::equal(sum.lse, nothing.lse));
  for (const auto& [begin, stop] : {std::pair{9, 17}, {0, 4}, {4, 9}}) {
    const auto part = [begin = begin, stop = stop](const at::Tensor& x) { return x.slice(0, begin, stop); };
    merge_attention(sum, partial_attention({q, part(k), part(v)}, {row, part(row), part(end)}, options));
  }
  EXPECT_LT(test::relative_error(sum.out, whole.out), 1e-13);
  EXPECT_LT(test::relative_error(sum.lse, whole.lse), 1e-13);
  EXPECT_THROW(merge_attention(sum, {whole.out.slice(0, 1), whole.lse.slice(0, 1)}), ShapeError);
  EXPECT_THROW(merge_attention(sum, {whole.out.to(at::kFloat), whole.lse}), ShapeError);
}

TEST(OpsSelectedLogprob, SendsWeightGradientsToTheMainGrad) {
  at::manual_seed(7);
  const Parameter weight = make(random({9, 5}));
  const at::Tensor hidden = random({4, 5}).requires_grad_(true);
  const at::Tensor row = at::tensor({0, 1, 1, 3}, at::kLong), target = at::tensor({8, 0, 2, 2}, at::kLong);
  const at::Tensor all = at::log_softmax(at::mm(hidden, weight.value.t()) / 1.5, 1);
  const at::Tensor loss = all.index({row, target}).sum() + at::exp(all).mul(all).sum() * 0.3;
  const auto expected = torch::autograd::grad({loss}, {hidden, weight.value});
  const SelectedLogprob got = selected_logprob(hidden, weight, row, target, 1.5);
  (got.logp.sum() - got.entropy.sum() * 0.3).backward();
  EXPECT_LT(test::relative_error(hidden.grad(), expected[0]), 1e-13);
  EXPECT_LT(test::relative_error(weight.main_grad, expected[1]), 1e-13);
  EXPECT_FALSE(weight.value.grad().defined());
  EXPECT_FALSE(got.argmax.requires_grad());
}

}  // namespace
}  // namespace fpdist::ops
