// The laws of rotary, on the device that test_device.hpp says.
#include "kernels/rotary/rotary.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "fpdist/core/error.hpp"
#include "tests/support/device/test_device.hpp"
#include "tests/support/laws/numeric_gradient.hpp"
#include "tests/support/laws/relative_error.hpp"
#include "tests/support/random/random_tensor.hpp"

namespace fpdist {
namespace {

using test::here, test::Made, test::random, test::there, test::wide;

// The device's operator between tensors on the CPU.
at::Tensor rotary(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool inverse) {
  return here(kernels::rotary(there(x), there(cos), there(sin), inverse));
}

TEST(Rotary, TurnsEachPairByItsAngle) {
  at::manual_seed(1);
  for (const auto dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
    const at::Tensor x = random({300, 3, 8}, dtype), angle = random({300, 4}) * 1000;
    const auto given = dtype == at::kDouble ? at::kDouble : at::kFloat;
    const at::Tensor cos = at::cos(angle).to(given), sin = at::sin(angle).to(given);
    const at::Tensor c = wide(cos).unsqueeze(1), s = wide(sin).unsqueeze(1);
    const at::Tensor a = wide(x).slice(2, 0, 4), b = wide(x).slice(2, 4);
    const at::Tensor expected = at::cat({a * c - b * s, b * c + a * s}, 2), own = rotary(x, cos, sin, false);
    EXPECT_EQ(own.scalar_type(), dtype);
    EXPECT_LT(test::relative_error(own, expected), test::tolerance(Made::kElement, dtype));
  }
}

TEST(Rotary, InverseUndoesAndIsTheGradient) {
  at::manual_seed(2);
  const at::Tensor x = random({4, 2, 6}), angle = random({4, 3}), grad = random({4, 2, 6});
  const at::Tensor c = at::cos(angle), s = at::sin(angle);
  EXPECT_LT(test::relative_error(rotary(rotary(x, c, s, false), c, s, true), x), test::tolerance(Made::kElement));
  const auto f = [&](const at::Tensor& y) { return rotary(y, c, s, false); };
  EXPECT_LT(test::relative_error(rotary(grad, c, s, true), test::numeric_gradient(f, x, grad)), test::kDifferences);
}

TEST(Rotary, Bfloat16RoundsOnceAtTheEnd) {
  at::manual_seed(3);
  const at::Tensor x = random({7, 2, 16}, at::kBFloat16), angle = random({7, 8}, at::kFloat) * 1000;
  const at::Tensor c = at::cos(angle), s = at::sin(angle);
  EXPECT_TRUE(at::equal(rotary(x, c, s, false), rotary(x.to(at::kFloat), c, s, false).to(at::kBFloat16)));
}

TEST(Rotary, RefusesWrongArguments) {
  const at::Tensor x = there(random({4, 2, 6})), c = there(random({4, 3}));
  EXPECT_THROW(kernels::rotary(x, c.to(at::kFloat), c, false), ShapeError);
  EXPECT_THROW(kernels::rotary(x, c.slice(0, 1), c, false), ShapeError);
  EXPECT_THROW(kernels::rotary(x.slice(2, 1), c, c, false), ShapeError);
  EXPECT_THROW(kernels::rotary(x.select(0, 0), c, c, false), ShapeError);
}

}  // namespace
}  // namespace fpdist
