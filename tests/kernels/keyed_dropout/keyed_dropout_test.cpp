// The laws of keyed_dropout, on the device that test_device.hpp says.
#include "kernels/keyed_dropout/keyed_dropout.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "fpdist/core/error.hpp"
#include "tests/support/device/test_device.hpp"
#include "tests/support/laws/relative_error.hpp"
#include "tests/support/random/random_tensor.hpp"

namespace fpdist {
namespace {

using test::here, test::random, test::there;

at::Tensor drop(const at::Tensor& x, const at::Tensor& key, int64_t stream = 7, double p = 0.3, int64_t first = 0) {
  return here(kernels::keyed_dropout(there(x), there(key), stream, p, first));
}

/// [rows,width] what is left of ones, 0 or 1.
at::Tensor mask(const at::Tensor& key, int64_t width, int64_t stream = 7, double p = 0.3, int64_t first = 0) {
  return drop(at::ones({key.size(0), width}, at::kDouble), key, stream, p, first) * (1 - p);
}

TEST(KeyedDropout, LeavesItsPartScaledAndIsItsOwnGradient) {
  at::manual_seed(3);
  const at::Tensor key = at::arange(200, at::kLong) * 77 - 9, x = random({200, 300}), dy = random({200, 300});
  for (const double p : {0.0, 0.05, 0.5, 0.9}) {
    const at::Tensor left = mask(key, 300, 7, p);
    EXPECT_NEAR(left.mean().item<double>(), 1 - p, 4 * std::sqrt(p * (1 - p) / 60000)) << p;
    EXPECT_LE(left.mean(0).sub(1 - p).abs().max().item<double>(), 5 * std::sqrt(p * (1 - p) / 200)) << p;
    EXPECT_LE(left.mean(1).sub(1 - p).abs().max().item<double>(), 5 * std::sqrt(p * (1 - p) / 300)) << p;
    EXPECT_LT(test::relative_error(drop(x, key, 7, p), x * left / (1 - p)), 1e-14);
    EXPECT_NEAR((drop(x, key, 7, p) * dy).sum().item<double>(), (x * drop(dy, key, 7, p)).sum().item<double>(), 1e-9);
  }
}

TEST(KeyedDropout, RowsOfOneKeyLoseTheSameElementsAndOthersDoNot) {
  const at::Tensor key = at::tensor({int64_t{5}, int64_t{-8}, int64_t{5}, int64_t{6}}, at::kLong);
  const at::Tensor left = mask(key, 500);
  EXPECT_TRUE(at::equal(left[0], left[2]));
  // Independent masks agree in 0.7^2 + 0.3^2 of their elements.
  for (const auto& [one, other] : {std::pair{left[0], left[1]}, {left[0], left[3]}, {left[0], mask(key, 500, 8)[0]}})
    EXPECT_NEAR((one - other).abs().mean().item<double>(), 0.42, 0.1);
  const at::Tensor whole = mask(key, 64);
  EXPECT_TRUE(at::equal(mask(key, 24, 7, 0.3, 40), whole.narrow(1, 40, 24)));
  EXPECT_TRUE(at::equal(mask(key.narrow(0, 1, 2), 64), whole.narrow(0, 1, 2)));
}

TEST(KeyedDropout, LowerDtypesDropTheSameAndRoundOnce) {
  at::manual_seed(4);
  const at::Tensor key = at::arange(31, at::kLong), left = mask(key, 33);
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    const at::Tensor x = random({31, 33}, dtype), y = drop(x, key);
    EXPECT_EQ(y.scalar_type(), dtype);
    EXPECT_TRUE(at::equal(y, (x.to(at::kFloat) * (1 / 0.7)).to(dtype) * left.to(dtype)));
  }
  EXPECT_EQ(drop(random({0, 4}), at::zeros({0}, at::kLong)).numel(), 0);
}

TEST(KeyedDropout, RefusesWrongArguments) {
  const at::Tensor x = there(random({3, 4})), key = there(at::arange(3, at::kLong));
  EXPECT_THROW(kernels::keyed_dropout(x, key.slice(0, 1), 0, 0.1, 0), ShapeError);
  EXPECT_THROW(kernels::keyed_dropout(x, key.to(at::kInt), 0, 0.1, 0), ShapeError);
  EXPECT_THROW(kernels::keyed_dropout(x, key, 0, 1.0, 0), ShapeError);
  EXPECT_THROW(kernels::keyed_dropout(x.to(at::kLong), key, 0, 0.1, 0), ShapeError);
}

}  // namespace
}  // namespace fpdist
