// What the GPU runs in place of the CPU twins, run on the CPU: the plan of a product, the log-probabilities in chunks,
// the compositions.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "fpdist/core/error.hpp"
#include "kernels/linear/gemm_call.hpp"
#include "kernels/linear/linear.hpp"
#include "kernels/rms_norm/rms_norm.hpp"
#include "kernels/rms_norm/rms_norm_composed.hpp"
#include "kernels/rotary/rotary.hpp"
#include "kernels/rotary/rotary_composed.hpp"
#include "kernels/selected_logprob/chunked_logprob.hpp"
#include "kernels/selected_logprob/selected_logprob.hpp"
#include "kernels/swiglu/swiglu.hpp"
#include "kernels/swiglu/swiglu_composed.hpp"
#include "tests/support/random_tree.hpp"

namespace fpdist::kernels {
namespace {

/// cublasLtMatmul as its manual has it: column-major, element (i, j) of a matrix at i + j * ld.
void interpret(const GemmCall& call, const double* a, const double* b, double* d, double* vector) {
  const auto at = [](const double* x, int64_t i, int64_t j, int64_t ld, bool transposes) {
    return transposes ? x[j + i * ld] : x[i + j * ld];
  };
  for (int64_t j = 0; j < call.n; ++j) {
    if (call.epilogue == Epilogue::kBiasGradient) {
      vector[j] = 0;
      for (int64_t l = 0; l < call.k; ++l) vector[j] += at(b, l, j, call.ldb, call.transpose_b);
    }
    for (int64_t i = 0; i < call.m; ++i) {
      double sum = call.accumulates ? d[i + j * call.ldd] : 0;
      for (int64_t l = 0; l < call.k; ++l)
        sum += at(a, i, l, call.lda, call.transpose_a) * at(b, l, j, call.ldb, call.transpose_b);
      d[i + j * call.ldd] = call.epilogue == Epilogue::kBias ? sum + vector[i] : sum;
    }
  }
}

/// A random matrix, at times a part of a wider one.
at::Tensor matrix(Rng& rng, int64_t rows, int64_t columns) {
  const auto extra = static_cast<int64_t>(rng.below(2) * 3);
  return at::randn({rows, columns + extra}, at::kDouble).slice(1, extra / 3, columns + extra / 3);
}

TEST(GemmCall, ReadColumnMajorItMakesTheRowMajorProduct) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    at::manual_seed(seed);
    Rng rng(seed);
    const auto size = [&] { return static_cast<int64_t>(1 + rng.below(9)); };
    const int64_t rows = size(), inner = size(), columns = size();
    const bool ta = rng.below(2) == 0, tb = rng.below(2) == 0, accumulates = rng.below(2) == 0;
    const auto epilogue = static_cast<Epilogue>(rng.below(3));
    const at::Tensor a = ta ? matrix(rng, inner, rows) : matrix(rng, rows, inner);
    const at::Tensor b = tb ? matrix(rng, columns, inner) : matrix(rng, inner, columns);
    const at::Tensor d = matrix(rng, rows, columns);
    at::Tensor vector = at::randn({epilogue == Epilogue::kBias ? columns : rows}, at::kDouble);
    const at::Tensor left = ta ? a.t() : a;
    at::Tensor expected = at::matmul(left, tb ? b.t() : b);
    if (accumulates) expected += d;
    if (epilogue == Epilogue::kBias) expected += vector;
    const GemmCall call = plan_product(a, ta, b, tb, d, accumulates, epilogue);
    interpret(call, b.data_ptr<double>(), a.data_ptr<double>(), d.data_ptr<double>(), vector.data_ptr<double>());
    EXPECT_LT(test::relative_error(d, expected), 1e-13);
    if (epilogue == Epilogue::kBiasGradient) {
      EXPECT_LT(test::relative_error(vector, left.sum(1)), 1e-13);
    }
  }
}

TEST(GemmCall, ForTheThreeProductsOfALinearIsWhatThePaperSays) {
  const at::Tensor x = at::zeros({7, 3}), w = at::zeros({5, 3}), dy = at::zeros({7, 5}), dw = at::zeros({5, 3});
  const GemmCall forward = plan_product(x, false, w, true, dy, false, Epilogue::kBias);
  EXPECT_EQ(std::tuple(forward.m, forward.n, forward.k, forward.transpose_a, forward.transpose_b),
            std::tuple(5, 7, 3, true, false));
  const GemmCall weight = plan_product(dy, true, x, false, dw, true, Epilogue::kBiasGradient);
  EXPECT_EQ(std::tuple(weight.m, weight.n, weight.k, weight.transpose_a, weight.transpose_b),
            std::tuple(3, 5, 7, false, true));
  EXPECT_EQ(std::tuple(weight.lda, weight.ldb, weight.ldd), std::tuple(3, 5, 3));
  EXPECT_EQ(forward, plan_product(x, false, w, true, dy, false, Epilogue::kBias));
  EXPECT_NE(forward, plan_product(x, false, w, true, dy, true, Epilogue::kBias));
}

TEST(GemmCall, KnowsTheAlignmentOfItsPointers) {
  const at::Tensor x = at::zeros({64, 64}, at::kBFloat16), w = at::zeros({64, 64}, at::kBFloat16);
  at::Tensor y = at::zeros({64, 64}, at::kBFloat16);
  const at::Tensor odd = at::zeros({64, 65}, at::kBFloat16).slice(1, 1);
  EXPECT_EQ(plan_product(odd, false, w, true, y, false).alignment_b, 2);
  EXPECT_GE(plan_product(x, false, w, true, y, false).alignment_b, 64);
}

TEST(GemmCall, RefusesWhatDoesNotFitOrHasNoRows) {
  const at::Tensor x = at::zeros({7, 3}), w = at::zeros({5, 3}), y = at::zeros({7, 5});
  EXPECT_THROW(plan_product(x, false, w, false, y, false), ShapeError);
  EXPECT_THROW(plan_product(x, false, w, true, y.t(), false), ShapeError);
  EXPECT_THROW(plan_product(x.to(at::kDouble), false, w, true, y, false), ShapeError);
  EXPECT_THROW(plan_product(at::zeros({3, 7}).t(), false, w, true, y, false), ShapeError);
  EXPECT_FALSE(has_rows(at::zeros({7}).expand({3, 7})));
  EXPECT_TRUE(has_rows(at::zeros({1, 7}).slice(1, 2, 5)));
}

TEST(AtenProduct, SumsInTheDtypeOfItsResult) {
  at::manual_seed(3);
  const at::Tensor a = at::randn({9, 4}).to(at::kBFloat16), b = at::randn({9, 6}).to(at::kBFloat16);
  at::Tensor d = at::ones({4, 6});
  aten_product(a, true, b, false, d, true);
  EXPECT_LT(test::relative_error(d, at::mm(a.to(at::kDouble).t(), b.to(at::kDouble)) + 1), 1e-6);
  at::Tensor fresh = at::full({4, 6}, NAN);
  aten_product(a, true, b, false, fresh, false);
  EXPECT_LT(test::relative_error(fresh, d - 1), 1e-6);
}

TEST(LinearBackward, BothGradientsInOnePassEqualTheTwoPasses) {
  at::manual_seed(4);
  for (const auto dtype : {at::kDouble, at::kBFloat16}) {
    const at::Tensor x = at::randn({9, 4}).to(dtype), dy = at::randn({9, 6}).to(dtype);
    const auto wide = dtype == at::kDouble ? at::kDouble : at::kFloat;
    at::Tensor dw = at::ones({6, 4}, wide), db = at::ones({6}, wide), alone = dw.clone(), wrong = at::ones({5}, wide);
    linear_backward_weight_bias(dy, x, dw, db);
    linear_backward_weight(dy, x, alone);
    EXPECT_TRUE(at::equal(dw, alone));
    EXPECT_LT(test::relative_error(db, dy.to(at::kDouble).sum(0) + 1), 1e-6);
    EXPECT_THROW(linear_backward_weight_bias(dy, x, dw, wrong), ShapeError);
  }
}

struct Scores {
  at::Tensor hidden, weight, row, target, grad_logp, grad_entropy;
};

Scores random_scores(uint64_t seed, int64_t rows, int64_t vocabulary, int64_t scores, at::ScalarType dtype) {
  at::manual_seed(seed);
  const auto wide = dtype == at::kDouble ? at::kDouble : at::kFloat;
  const at::Tensor target = at::randint(-1, vocabulary, {scores}, at::kLong);
  return {at::randn({rows, 12}, at::kDouble).to(dtype),
          at::randn({vocabulary, 12}, at::kDouble).to(dtype),
          std::get<0>(at::randint(0, rows, {scores}, at::kLong).sort()),
          vocabulary == 0 ? at::full({scores}, -1, at::kLong) : target,
          at::randn({scores}, wide),
          at::randn({rows}, wide)};
}

void expect_chunked_equals_twin(const Scores& s, double temperature, int64_t chunk_bytes, double tolerance,
                                double gradient_tolerance) {
  const auto [logit, lse, entropy, best, argmax] = partial_logprob(s.hidden, s.weight, s.row, s.target, temperature);
  const auto own = chunked_logprob(s.hidden, s.weight, s.row, s.target, temperature, aten_product, chunk_bytes);
  EXPECT_TRUE(at::equal(at::isneginf(std::get<0>(own)), at::isneginf(logit)));
  EXPECT_LT(test::relative_error(at::exp(std::get<0>(own)), at::exp(logit)), tolerance);
  EXPECT_TRUE(at::equal(at::isneginf(std::get<1>(own)), at::isneginf(lse)));
  EXPECT_LT(test::relative_error(at::exp(std::get<1>(own)), at::exp(lse)), tolerance);
  EXPECT_LT(test::relative_error(std::get<2>(own), entropy), tolerance);
  EXPECT_LT(test::relative_error(at::exp(std::get<3>(own)), at::exp(best)), tolerance);
  EXPECT_TRUE(at::equal(std::get<4>(own), argmax));
  using Grad = std::optional<at::Tensor>;
  for (const Grad& grad_logp : {Grad(), Grad(s.grad_logp)}) {
    for (const Grad& grad_entropy : {Grad(), Grad(s.grad_entropy)}) {
      at::Tensor dw = at::ones(s.weight.sizes(), lse.options()), own_dw = dw.clone();
      const at::Tensor dh = selected_logprob_backward(grad_logp, grad_entropy, s.hidden, s.weight, s.row, s.target, lse,
                                                      entropy, temperature, dw);
      const at::Tensor own_dh = chunked_logprob_backward(grad_logp, grad_entropy, s.hidden, s.weight, s.row, s.target,
                                                         lse, entropy, temperature, own_dw, aten_product, chunk_bytes);
      EXPECT_LT(test::relative_error(own_dh, dh), gradient_tolerance);
      EXPECT_LT(test::relative_error(own_dw, dw), gradient_tolerance);
      EXPECT_EQ(own_dh.scalar_type(), s.hidden.scalar_type());
    }
  }
}

TEST(ChunkedLogprob, EqualsTheTwinInFloat64ForAnyChunk) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    const auto rows = static_cast<int64_t>(1 + seed), scores = static_cast<int64_t>(seed * 3);
    const int64_t vocabulary = seed % 5 == 4 ? 0 : 37;
    expect_chunked_equals_twin(random_scores(seed, rows, vocabulary, scores, at::kDouble), seed % 2 ? 1.0 : 0.7,
                               (1 + static_cast<int64_t>(seed % 4)) * 3 * 37 * 8, 1e-12, 1e-12);
  }
}

TEST(ChunkedLogprob, LowerDtypesStayWithinTheirRounding) {
  expect_chunked_equals_twin(random_scores(1, 20, 301, 30, at::kFloat), 1.0, 7 * 301 * 4, 1e-5, 1e-5);
  // The logits' gradient is rounded to bfloat16 for its products: 2^-9 of the largest, on 30 terms.
  expect_chunked_equals_twin(random_scores(2, 20, 301, 30, at::kBFloat16), 1.0, 7 * 301 * 4, 1e-5, 8e-3);
}

TEST(ChunkedLogprob, RepeatedScoresAddUp) {
  Scores s = random_scores(3, 6, 11, 24, at::kDouble);
  s.row = at::arange(24, at::kLong).floor_divide(4), s.target = s.target.clamp_min(0).floor_divide(6);
  expect_chunked_equals_twin(s, 1.0, 4 * 11 * 8, 1e-12, 1e-12);
}

TEST(Composed, EqualTheTwins) {
  for (const auto& [dtype, tolerance] : {std::pair{at::kDouble, 1e-13}, {at::kFloat, 1e-5}, {at::kBFloat16, 8e-3}}) {
    SCOPED_TRACE(dtype);
    at::manual_seed(5);
    const auto random = [&, type = dtype](at::IntArrayRef sizes) { return at::randn(sizes, at::kDouble).to(type); };
    const auto wide = dtype == at::kDouble ? at::kDouble : at::kFloat;
    const at::Tensor heads = random({9, 3, 8}), angle = at::randn({9, 4}, wide) * 100;
    for (const bool inverse : {false, true})
      EXPECT_LT(test::relative_error(composed_rotary(heads, at::cos(angle), at::sin(angle), inverse),
                                     rotary(heads, at::cos(angle), at::sin(angle), inverse)),
                tolerance);
    const at::Tensor gate = random({9, 13}) * 3, up = random({9, 13}), dy = random({9, 13}), weight = random({13});
    EXPECT_LT(test::relative_error(composed_swiglu(gate, up), swiglu(gate, up)), tolerance);
    const auto [dg, du] = composed_swiglu_backward(dy, gate, up);
    const auto [twin_dg, twin_du] = swiglu_backward(dy, gate, up);
    EXPECT_LT(test::relative_error(dg, twin_dg), tolerance);
    EXPECT_LT(test::relative_error(du, twin_du), tolerance);
    EXPECT_LT(test::relative_error(composed_rms_norm(gate, weight, 1e-6), rms_norm(gate, weight, 1e-6, {})), tolerance);
    const auto [dx, dw] = composed_rms_norm_backward(dy, gate, weight, 1e-6);
    const auto [twin_dx, twin_dw] = rms_norm_backward(dy, gate, weight, 1e-6);
    EXPECT_LT(test::relative_error(dx, twin_dx), tolerance);
    EXPECT_LT(test::relative_error(dw, twin_dw), tolerance);
    EXPECT_EQ(dx.scalar_type(), dtype);
    EXPECT_EQ(dw.scalar_type(), wide);
  }
}

}  // namespace
}  // namespace fpdist::kernels
