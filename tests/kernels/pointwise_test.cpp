// The laws of rotary, swiglu and rms_norm, and of the embedding's sums, on the device that test_device.hpp says.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <functional>

#include "fpdist/core/error.hpp"
#include "fpdist/ops/functional.hpp"
#include "kernels/rms_norm/rms_norm.hpp"
#include "kernels/rotary/rotary.hpp"
#include "kernels/swiglu/swiglu.hpp"
#include "tests/support/random_tensor.hpp"
#include "tests/support/random_tree.hpp"
#include "tests/support/test_device.hpp"
#include "tests/support/tolerance.hpp"

namespace fpdist {
namespace {

using test::here, test::Made, test::random, test::there, test::wide;

double tolerance(Made made, at::ScalarType dtype = at::kDouble) { return test::tolerance(made, dtype, test::where()); }
/// Central differences have an error of their own, about the square of their step.
constexpr double kDifferences = 1e-8;

// The device's operators between tensors on the CPU.
at::Tensor rotary(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool inverse) {
  return here(kernels::rotary(there(x), there(cos), there(sin), inverse));
}
at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) {
  return here(kernels::swiglu(there(gate), there(up)));
}
std::pair<at::Tensor, at::Tensor> swiglu_backward(const at::Tensor& dy, const at::Tensor& gate, const at::Tensor& up) {
  const auto [d_gate, d_up] = kernels::swiglu_backward(there(dy), there(gate), there(up));
  return {here(d_gate), here(d_up)};
}

/// Central differences of sum(f(x) * grad) in every element of x.
at::Tensor numeric_gradient(const std::function<at::Tensor(const at::Tensor&)>& f, const at::Tensor& x,
                            const at::Tensor& grad) {
  constexpr double kStep = 1e-6;
  at::Tensor result = at::empty_like(x);
  for (int64_t i = 0; i < x.numel(); ++i) {
    const auto shifted = [&](double by) {
      at::Tensor y = x.detach().clone();
      y.view(-1)[i] += by;
      return (f(y) * grad).sum().item<double>();
    };
    result.view(-1)[i] = (shifted(kStep) - shifted(-kStep)) / (2 * kStep);
  }
  return result;
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
    EXPECT_LT(test::relative_error(own, expected), tolerance(Made::kElement, dtype));
  }
}

TEST(Rotary, InverseUndoesAndIsTheGradient) {
  at::manual_seed(2);
  const at::Tensor x = random({4, 2, 6}), angle = random({4, 3}), grad = random({4, 2, 6});
  const at::Tensor c = at::cos(angle), s = at::sin(angle);
  EXPECT_LT(test::relative_error(rotary(rotary(x, c, s, false), c, s, true), x), tolerance(Made::kElement));
  const auto f = [&](const at::Tensor& y) { return rotary(y, c, s, false); };
  EXPECT_LT(test::relative_error(rotary(grad, c, s, true), numeric_gradient(f, x, grad)), kDifferences);
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

TEST(SwiGlu, EqualsItsFormulaAndItsGradientsFiniteDifferences) {
  at::manual_seed(4);
  const at::Tensor gate = random({5, 7}) * 3, up = random({5, 7}), grad = random({5, 7});
  EXPECT_LT(test::relative_error(swiglu(gate, up), gate / (1 + at::exp(-gate)) * up), tolerance(Made::kElement));
  const auto [d_gate, d_up] = swiglu_backward(grad, gate, up);
  const auto by_gate = [&](const at::Tensor& g) { return swiglu(g, up); };
  const auto by_up = [&](const at::Tensor& u) { return swiglu(gate, u); };
  EXPECT_LT(test::relative_error(d_gate, numeric_gradient(by_gate, gate, grad)), kDifferences);
  EXPECT_LT(test::relative_error(d_up, numeric_gradient(by_up, up, grad)), kDifferences);
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
    EXPECT_LT(test::relative_error(swiglu(gate, up), g * s * wide(up)), tolerance(Made::kElement, dtype));
    EXPECT_LT(test::relative_error(dg, dy * wide(up) * s * (1 + g * (1 - s))), tolerance(Made::kElement, dtype));
    EXPECT_LT(test::relative_error(du, dy * g * s), tolerance(Made::kElement, dtype));
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
      EXPECT_LT(test::relative_error(y, expected), tolerance(Made::kProduct, dtype));
      EXPECT_LT(test::relative_error(here(dx), exact[0]), tolerance(Made::kProduct, dtype));
      EXPECT_LT(test::relative_error(here(dw), exact[1]), tolerance(Made::kProduct, dtype));
    }
  }
}

TEST(RmsNorm, RefusesWrongArguments) {
  const at::Tensor x = there(random({3, 5})), weight = there(random({5}));
  EXPECT_THROW(kernels::rms_norm(x, weight.slice(0, 1), 1e-6, {}), ShapeError);
  EXPECT_THROW(kernels::rms_norm(x, weight.to(at::kFloat), 1e-6, {}), ShapeError);
  EXPECT_THROW(kernels::rms_norm_backward(x.slice(0, 1), x, weight, 1e-6), ShapeError);
}

TEST(Embedding, AddsRepeatedTokensInOneOrder) {
  at::manual_seed(9);
  const at::Tensor token = at::randint(0, 20, {500}, at::kLong), dy = random({500, 64}, at::kFloat);
  const auto run = [&] {
    ops::Parameter table;
    table.name = "embedding";
    table.value = there(at::zeros({20, 64})).requires_grad_(true);
    table.main_grad = there(at::zeros({20, 64}));
    ops::embedding(there(token), table).backward(there(dy));
    return here(table.main_grad);
  };
  const at::Tensor sum = run();
  EXPECT_LT(test::relative_error(sum, at::zeros({20, 64}, at::kDouble).index_add(0, token, wide(dy))),
            tolerance(Made::kSum, at::kFloat));
  for (int repeat = 0; repeat < 5; ++repeat) EXPECT_TRUE(at::equal(sum, run()));
}

}  // namespace
}  // namespace fpdist
