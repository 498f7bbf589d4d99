// The laws of swiglu, on the device that test_device.hpp says.
#include "kernels/swiglu/swiglu.hpp"

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

// The device's operators between tensors on the CPU.
at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) {
  return here(kernels::swiglu(there(gate), there(up)));
}
std::pair<at::Tensor, at::Tensor> swiglu_backward(const at::Tensor& dy, const at::Tensor& gate, const at::Tensor& up) {
  const auto [d_gate, d_up] = kernels::swiglu_backward(there(dy), there(gate), there(up));
  return {here(d_gate), here(d_up)};
}

TEST(SwiGlu, EqualsItsFormulaAndItsGradientsFiniteDifferences) {
  at::manual_seed(4);
  const at::Tensor gate = random({5, 7}) * 3, up = random({5, 7}), grad = random({5, 7});
  EXPECT_LT(test::relative_error(swiglu(gate, up), gate / (1 + at::exp(-gate)) * up), test::tolerance(Made::kElement));
  const auto [d_gate, d_up] = swiglu_backward(grad, gate, up);
  const auto by_gate = [&](const at::Tensor& g) { return swiglu(g, up); };
  const auto by_up = [&](const at::Tensor& u) { return swiglu(gate, u); };
  EXPECT_LT(test::relative_error(d_gate, test::numeric_gradient(by_gate, gate, grad)), test::kDifferences);
  EXPECT_LT(test::relative_error(d_up, test::numeric_gradient(by_up, up, grad)), test::kDifferences);
}

TEST(SwiGlu, ExtremeGatesStayFinite) {
  const at::Tensor gate = at::tensor({-1e4, -200.0, 0.0, 200.0, 1e4}, at::kFloat).view({1, 5});
  const at::Tensor up = at::ones_like(gate);
  const at::Tensor expected = at::tensor({0.0, 0.0, 0.0, 200.0, 1e4}, at::kFloat).view({1, 5});
  EXPECT_LT((swiglu(gate, up) - expected).abs().max().item<float>(), 1e-6);
  const auto [d_gate, d_up] = swiglu_backward(up, gate, up);
  EXPECT_TRUE(at::isfinite(d_gate).all().item<bool>() && at::isfinite(d_up).all().item<bool>());
}

TEST(SwiGlu, LowerDtypesStayWithinTheirRounding) {
  at::manual_seed(5);
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    const at::Tensor gate = random({300, 40}, dtype), up = random({300, 40}, dtype), grad = random({300, 40}, dtype);
    const at::Tensor g = wide(gate), s = at::sigmoid(g), dy = wide(grad);
    const auto [dg, du] = swiglu_backward(grad, gate, up);
    EXPECT_LT(test::relative_error(swiglu(gate, up), g * s * wide(up)), test::tolerance(Made::kElement, dtype));
    EXPECT_LT(test::relative_error(dg, dy * wide(up) * s * (1 + g * (1 - s))), test::tolerance(Made::kElement, dtype));
    EXPECT_LT(test::relative_error(du, dy * g * s), test::tolerance(Made::kElement, dtype));
    EXPECT_EQ(dg.scalar_type(), dtype);
    EXPECT_EQ(du.scalar_type(), dtype);
  }
}

TEST(SwiGlu, RefusesWrongArguments) {
  const at::Tensor gate = there(random({3, 4}));
  EXPECT_THROW(kernels::swiglu(gate, gate.slice(1, 1)), ShapeError);
  EXPECT_THROW(kernels::swiglu(gate, gate.to(at::kFloat)), ShapeError);
  EXPECT_THROW(kernels::swiglu(gate.to(at::kLong), gate), ShapeError);
  EXPECT_THROW(kernels::swiglu_backward(gate.slice(0, 1), gate, gate), ShapeError);
}

}  // namespace
}  // namespace fpdist
