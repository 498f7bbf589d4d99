// The laws of rms_norm, on the device that test_device.hpp says.
#include "kernels/rms_norm/rms_norm.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "fpdist/core/error.hpp"
#include "tests/support/device/test_device.hpp"
#include "tests/support/laws/relative_error.hpp"
#include "tests/support/random/random_tensor.hpp"

namespace fpdist {
namespace {

using test::here, test::Made, test::random, test::there, test::wide;

TEST(RmsNorm, EqualsItsFormulaAndItsGradientsInEveryDtype) {
  for (const auto dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
    for (const int64_t width : {1, 7, 64, 70}) {
      SCOPED_TRACE(testing::Message() << dtype << " width " << width);
      at::manual_seed(2);
      const at::Tensor x = random({75, width}, dtype), weight = random({width}, dtype), dy = random({75, width}, dtype);
      const at::Tensor leaf = wide(x).clone().requires_grad_(true), gain = wide(weight).clone().requires_grad_(true);
      const at::Tensor expected = gain * leaf * at::rsqrt(leaf.square().mean(-1, true) + 1e-6);
      const auto exact = torch::autograd::grad({expected}, {leaf, gain}, {wide(dy)});
      const auto [dx, dw] = kernels::rms_norm_backward(there(dy), there(x), there(weight), 1e-6);
      const at::Tensor y = here(kernels::rms_norm(there(x), there(weight), 1e-6, {}));
      EXPECT_EQ(y.scalar_type(), dtype);
      EXPECT_EQ(dw.scalar_type(), dtype == at::kDouble ? at::kDouble : at::kFloat);
      // Each element has a mean in it: a sum, in the dtype. So has dw, whose terms Transformers' numerics round.
      EXPECT_LT(test::relative_error(y, expected), test::tolerance(Made::kProduct, dtype));
      EXPECT_LT(test::relative_error(here(dx), exact[0]), test::tolerance(Made::kProduct, dtype));
      EXPECT_LT(test::relative_error(here(dw), exact[1]), test::tolerance(Made::kProduct, dtype));
    }
  }
}

TEST(RmsNorm, RefusesWrongArguments) {
  const at::Tensor x = there(random({3, 5})), weight = there(random({5}));
  EXPECT_THROW(kernels::rms_norm(x, weight.slice(0, 1), 1e-6, {}), ShapeError);
  EXPECT_THROW(kernels::rms_norm(x, weight.to(at::kFloat), 1e-6, {}), ShapeError);
  EXPECT_THROW(kernels::rms_norm_backward(x.slice(0, 1), x, weight, 1e-6), ShapeError);
}

}  // namespace
}  // namespace fpdist
