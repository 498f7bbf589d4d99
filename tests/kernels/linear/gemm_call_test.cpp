// The plan of a product, read as cuBLASLt reads it, and the product that ATen makes in its place.
#include "kernels/linear/gemm_call.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "fpdist/core/error.hpp"
#include "fpdist/core/rng.hpp"
#include "tests/support/laws/relative_error.hpp"

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
    const GemmCall call = product_call(a, ta, b, tb, d, accumulates, epilogue);
    interpret(call, b.data_ptr<double>(), a.data_ptr<double>(), d.data_ptr<double>(), vector.data_ptr<double>());
    EXPECT_LT(test::relative_error(d, expected), 1e-13);
    if (epilogue == Epilogue::kBiasGradient) {
      EXPECT_LT(test::relative_error(vector, left.sum(1)), 1e-13);
    }
  }
}

TEST(GemmCall, ForTheThreeProductsOfALinearIsWhatThePaperSays) {
  const at::Tensor x = at::zeros({7, 3}), w = at::zeros({5, 3}), dy = at::zeros({7, 5}), dw = at::zeros({5, 3});
  const GemmCall forward = product_call(x, false, w, true, dy, false, Epilogue::kBias);
  EXPECT_EQ(std::tuple(forward.m, forward.n, forward.k, forward.transpose_a, forward.transpose_b),
            std::tuple(5, 7, 3, true, false));
  const GemmCall weight = product_call(dy, true, x, false, dw, true, Epilogue::kBiasGradient);
  EXPECT_EQ(std::tuple(weight.m, weight.n, weight.k, weight.transpose_a, weight.transpose_b),
            std::tuple(3, 5, 7, false, true));
  EXPECT_EQ(std::tuple(weight.lda, weight.ldb, weight.ldd), std::tuple(3, 5, 3));
  EXPECT_EQ(forward, product_call(x, false, w, true, dy, false, Epilogue::kBias));
  EXPECT_NE(forward, product_call(x, false, w, true, dy, true, Epilogue::kBias));
}

TEST(GemmCall, KnowsTheAlignmentOfItsPointers) {
  const at::Tensor x = at::zeros({64, 64}, at::kBFloat16), w = at::zeros({64, 64}, at::kBFloat16);
  at::Tensor y = at::zeros({64, 64}, at::kBFloat16);
  const at::Tensor odd = at::zeros({64, 65}, at::kBFloat16).slice(1, 1);
  EXPECT_EQ(product_call(odd, false, w, true, y, false).alignment_b, 2);
  EXPECT_GE(product_call(x, false, w, true, y, false).alignment_b, 64);
}

TEST(GemmCall, RefusesWhatDoesNotFitOrHasNoRows) {
  const at::Tensor x = at::zeros({7, 3}), w = at::zeros({5, 3}), y = at::zeros({7, 5});
  EXPECT_THROW(product_call(x, false, w, false, y, false), ShapeError);
  EXPECT_THROW(product_call(x, false, w, true, y.t(), false), ShapeError);
  EXPECT_THROW(product_call(x.to(at::kDouble), false, w, true, y, false), ShapeError);
  EXPECT_THROW(product_call(at::zeros({3, 7}).t(), false, w, true, y, false), ShapeError);
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

}  // namespace
}  // namespace fpdist::kernels
