// The CPU's products, bfloat16 into float32 among them, whatever torch was built with.
#include "kernels/linear/host_product.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "fpdist/core/rng.hpp"
#include "kernels/linear/mixed_sums.hpp"
#include "tests/support/laws/relative_error.hpp"

namespace fpdist {
namespace {

at::Tensor random(int64_t rows, int64_t columns, bool transposed) {
  return at::randn(transposed ? at::IntArrayRef{columns, rows} : at::IntArrayRef{rows, columns}).to(at::kBFloat16);
}

TEST(HostProduct, OfBfloat16AddsUpInFloat32InEveryLayout) {
  for (uint64_t seed = 0; seed < 24; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    at::manual_seed(seed);
    Rng rng(seed);
    const auto size = [&] { return static_cast<int64_t>(1 + rng.below(90)); };
    const int64_t m = size(), n = size(), k = size();
    const bool transpose_a = seed & 1, transpose_b = seed & 2, accumulates = seed & 4;
    const at::Tensor a = random(m, k, transpose_a), b = random(k, n, transpose_b);
    at::Tensor wide = at::randn({m, n + 5}), d = wide.narrow(1, 2, n);  // rows apart, as a slice of a main grad
    const at::Tensor before = wide.clone();
    const auto plain = [](const at::Tensor& x, bool transposed) { return (transposed ? x.t() : x).to(at::kDouble); };
    const at::Tensor product = at::mm(plain(a, transpose_a), plain(b, transpose_b));
    kernels::host_product(a, transpose_a, b, transpose_b, d, accumulates);
    const at::Tensor expected = accumulates ? product + before.narrow(1, 2, n) : product;
    EXPECT_LT(test::relative_error(d, expected), 1e-6);
    EXPECT_TRUE(at::equal(wide.narrow(1, 0, 2), before.narrow(1, 0, 2)));
    EXPECT_TRUE(at::equal(wide.narrow(1, n + 2, 3), before.narrow(1, n + 2, 3)));
  }
}

TEST(HostProduct, OfNothingIsZerosOrWhatWasThere) {
  const at::Tensor a = at::empty({4, 0}, at::kBFloat16), b = at::empty({0, 3}, at::kBFloat16);
  at::Tensor d = at::ones({4, 3});
  kernels::host_product(a, false, b, false, d, /*accumulates=*/true);
  EXPECT_TRUE(at::equal(d, at::ones({4, 3})));
  kernels::host_product(a, false, b, false, d, /*accumulates=*/false);
  EXPECT_TRUE(at::equal(d, at::zeros({4, 3})));
}

TEST(HostProduct, TakesWhatHasNoRowsOfNeighbours) {
  at::manual_seed(1);
  const at::Tensor a = at::randn({6, 5, 2}).to(at::kBFloat16).select(2, 1), b = at::randn({5, 7}).to(at::kBFloat16);
  at::Tensor d = at::empty({6, 7});
  kernels::host_product(a, false, b, false, d, /*accumulates=*/false);
  EXPECT_LT(test::relative_error(d, at::mm(a.to(at::kDouble), b.to(at::kDouble))), 1e-6);
}

TEST(MixedSums, AreThoseOfWidenedElements) {
  for (const auto& [rows, columns] : {std::pair{1, 1}, {3, 64}, {700, 130}, {257, 15}, {0, 5}}) {
    SCOPED_TRACE(testing::Message() << rows << " x " << columns);
    at::manual_seed(3);
    const at::Tensor x = at::randn({rows, columns + 4}).to(at::kBFloat16).narrow(1, 2, columns);
    const at::Tensor vector = at::randn({columns}), wide = x.to(at::kDouble);
    EXPECT_LT(test::relative_error(kernels::column_sum(x), wide.sum(0)), 1e-6);
    EXPECT_LT(test::relative_error(kernels::row_products(x, vector), at::mv(wide, vector.to(at::kDouble))), 1e-6);
    EXPECT_TRUE(at::equal(kernels::column_sum(wide), wide.sum(0)));
  }
}

}  // namespace
}  // namespace fpdist
