// The log-probabilities in chunks of ATen's operations, as a GPU makes them in float64, against the CPU twin.
#include "kernels/selected_logprob/chunked_logprob.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "kernels/selected_logprob/selected_logprob.hpp"
#include "tests/support/laws/relative_error.hpp"

namespace fpdist::kernels {
namespace {

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
  const LogitScores scores{.row = s.row, .target = s.target, .temperature = temperature};
  const ChunkWork work{.product = aten_product, .bytes = chunk_bytes};
  const LogitResults own = chunked_logprob(s.hidden, s.weight, scores, /*is_relative=*/false, work).results;
  const LogitResults relative = chunked_logprob(s.hidden, s.weight, scores, /*is_relative=*/true, work).results;
  const at::Tensor logp = s.weight.size(0) == 0 ? logit : logit - lse.index_select(0, s.row);
  EXPECT_LT(test::relative_error(at::exp(relative.logit), at::exp(logp)), tolerance);
  EXPECT_TRUE(at::equal(at::isneginf(own.logit), at::isneginf(logit)));
  EXPECT_LT(test::relative_error(at::exp(own.logit), at::exp(logit)), tolerance);
  EXPECT_TRUE(at::equal(at::isneginf(own.lse), at::isneginf(lse)));
  EXPECT_LT(test::relative_error(at::exp(own.lse), at::exp(lse)), tolerance);
  EXPECT_LT(test::relative_error(own.entropy, entropy), tolerance);
  EXPECT_LT(test::relative_error(at::exp(own.best), at::exp(best)), tolerance);
  EXPECT_TRUE(at::equal(own.argmax, argmax));
  using Grad = std::optional<at::Tensor>;
  for (const Grad& grad_logp : {Grad(), Grad(s.grad_logp)}) {
    for (const Grad& grad_entropy : {Grad(), Grad(s.grad_entropy)}) {
      at::Tensor dw = at::ones(s.weight.sizes(), lse.options()), own_dw = dw.clone();
      const at::Tensor dh = selected_logprob_backward(grad_logp, grad_entropy, s.hidden, s.weight, s.row, s.target, lse,
                                                      entropy, temperature, dw);
      const LogitGradients of{grad_logp, grad_entropy, lse, entropy};
      const at::Tensor own_dh = chunked_logprob_backward(of, s.hidden, s.weight, scores, own_dw, true, work);
      at::Tensor written = at::full_like(own_dw, NAN);
      chunked_logprob_backward(of, s.hidden, s.weight, scores, written, false, work);
      EXPECT_LT(test::relative_error(written, dw - 1), gradient_tolerance);
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

TEST(ChunkedLogprob, ChunksAreEvenPartsThatFit) {
  EXPECT_EQ(rows_of_chunk(8193, 152064, 4, int64_t{3} << 29), 2176);  // 4 of them, 17 tiles, where 2,648 rows fit
  EXPECT_EQ(rows_of_chunk(2600, 152064, 4, int64_t{3} << 29), 2600);  // 21 tiles would not
  EXPECT_EQ(rows_of_chunk(2048, 152064, 4, int64_t{3} << 29), 2048);
  EXPECT_EQ(rows_of_chunk(10, 100, 4, 1200), 3);
  EXPECT_EQ(rows_of_chunk(10, 100, 4, 1), 1);
  EXPECT_EQ(rows_of_chunk(0, 100, 4, 1200), 1);
  EXPECT_EQ(rows_of_chunk(5, 0, 4, 1200), 128);
}

TEST(ChunkedLogprob, LogitsThatForwardLeftInMemoryNeedNoProduct) {
  static int products;
  const auto statistics = [](at::Tensor& logits, const LogitScores& scores, LogitResults& results) {
    at::Tensor used = logits.clone();
    composed_logit_statistics(used, scores, results);
  };
  const auto product = [](const at::Tensor& a, bool transpose_a, const at::Tensor& b, bool transpose_b, at::Tensor& d,
                          bool accumulates) {
    ++products;
    aten_product(a, transpose_a, b, transpose_b, d, accumulates);
  };
  const Scores s = random_scores(5, 14, 301, 30, at::kFloat);
  const LogitScores scores{.row = s.row, .target = s.target, .temperature = 0.7};
  for (const int64_t chunks : {1, 3}) {
    const ChunkWork work{.product = product, .statistics = statistics, .bytes = (14 / chunks + 1) * 301 * 4};
    const auto [made, memory] = chunked_logprob(s.hidden, s.weight, scores, /*is_relative=*/true, work);
    const LogitGradients of{s.grad_logp, s.grad_entropy, made.lse, made.entropy};
    at::Tensor dw = at::zeros(s.weight.sizes()), other_dw = dw.clone();
    products = 0;
    const at::Tensor dh = chunked_logprob_backward(of, s.hidden, s.weight, scores, dw, true, work, memory);
    EXPECT_EQ(products, 3 * chunks - 1);
    const at::Tensor other = chunked_logprob_backward(of, s.hidden, s.weight, scores, other_dw, true, work);
    EXPECT_TRUE(at::equal(dh, other) && at::equal(dw, other_dw));
  }
}

TEST(ChunkedLogprob, RepeatedScoresAddUp) {
  Scores s = random_scores(3, 6, 11, 24, at::kDouble);
  s.row = at::arange(24, at::kLong).floor_divide(4), s.target = s.target.clamp_min(0).floor_divide(6);
  expect_chunked_equals_twin(s, 1.0, 4 * 11 * 8, 1e-12, 1e-12);
}

}  // namespace
}  // namespace fpdist::kernels
