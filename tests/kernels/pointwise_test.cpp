#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <functional>

#include "fpdist/core/error.hpp"
#include "kernels/linear/linear.hpp"
#include "kernels/rotary/rotary.hpp"
#include "kernels/swiglu/swiglu.hpp"
#include "support/random_tree.hpp"

namespace fpdist {
namespace {

at::Tensor random(at::IntArrayRef sizes, at::ScalarType dtype = at::kDouble) {
  return at::randn(sizes, at::kDouble).to(dtype);
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
  const at::Tensor x = random({5, 3, 8}), angle = random({5, 4});
  const at::Tensor c = at::cos(angle).unsqueeze(1), s = at::sin(angle).unsqueeze(1);
  const at::Tensor a = x.slice(2, 0, 4), b = x.slice(2, 4);
  const at::Tensor expected = at::cat({a * c - b * s, b * c + a * s}, 2);
  EXPECT_LT(test::relative_error(kernels::rotary(x, at::cos(angle), at::sin(angle), false), expected), 1e-14);
}

TEST(Rotary, InverseUndoesAndIsTheGradient) {
  at::manual_seed(2);
  const at::Tensor x = random({4, 2, 6}), angle = random({4, 3}), grad = random({4, 2, 6});
  const at::Tensor c = at::cos(angle), s = at::sin(angle);
  EXPECT_LT(test::relative_error(kernels::rotary(kernels::rotary(x, c, s, false), c, s, true), x), 1e-14);
  const auto f = [&](const at::Tensor& y) { return kernels::rotary(y, c, s, false); };
  EXPECT_LT(test::relative_error(kernels::rotary(grad, c, s, true), numeric_gradient(f, x, grad)), 1e-8);
}

TEST(Rotary, Bfloat16RoundsOnceAtTheEnd) {
  at::manual_seed(3);
  const at::Tensor x = random({7, 2, 16}, at::kBFloat16), angle = random({7, 8}, at::kFloat) * 1000;
  const at::Tensor c = at::cos(angle), s = at::sin(angle);
  EXPECT_TRUE(
      at::equal(kernels::rotary(x, c, s, false), kernels::rotary(x.to(at::kFloat), c, s, false).to(at::kBFloat16)));
}

TEST(Rotary, RefusesWrongArguments) {
  const at::Tensor x = random({4, 2, 6}), c = random({4, 3});
  EXPECT_THROW(kernels::rotary(x, c.to(at::kFloat), c, false), ShapeError);
  EXPECT_THROW(kernels::rotary(x, c.slice(0, 1), c, false), ShapeError);
  EXPECT_THROW(kernels::rotary(x.slice(2, 1), c, c, false), ShapeError);
  EXPECT_THROW(kernels::rotary(x.select(0, 0), c, c, false), ShapeError);
}

TEST(SwiGlu, EqualsItsFormulaAndItsGradientsFiniteDifferences) {
  at::manual_seed(4);
  const at::Tensor gate = random({5, 7}) * 3, up = random({5, 7}), grad = random({5, 7});
  EXPECT_LT(test::relative_error(kernels::swiglu(gate, up), gate / (1 + at::exp(-gate)) * up), 1e-14);
  const auto [d_gate, d_up] = kernels::swiglu_backward(grad, gate, up);
  const auto by_gate = [&](const at::Tensor& g) { return kernels::swiglu(g, up); };
  const auto by_up = [&](const at::Tensor& u) { return kernels::swiglu(gate, u); };
  EXPECT_LT(test::relative_error(d_gate, numeric_gradient(by_gate, gate, grad)), 1e-8);
  EXPECT_LT(test::relative_error(d_up, numeric_gradient(by_up, up, grad)), 1e-8);
}

TEST(SwiGlu, ExtremeGatesStayFinite) {
  const at::Tensor gate = at::tensor({-1e4, -200.0, 0.0, 200.0, 1e4}, at::kFloat).view({1, 5});
  const at::Tensor up = at::ones_like(gate);
  const at::Tensor expected = at::tensor({0.0, 0.0, 0.0, 200.0, 1e4}, at::kFloat).view({1, 5});
  EXPECT_LT((kernels::swiglu(gate, up) - expected).abs().max().item<float>(), 1e-6);
  const auto [d_gate, d_up] = kernels::swiglu_backward(up, gate, up);
  EXPECT_TRUE(at::isfinite(d_gate).all().item<bool>() && at::isfinite(d_up).all().item<bool>());
}

TEST(SwiGlu, LowerDtypesStayWithinTheirRounding) {
  at::manual_seed(5);
  for (const auto& [dtype, tolerance] : {std::pair{at::kFloat, 1e-6}, {at::kBFloat16, 4e-3}}) {
    const at::Tensor gate = random({9, 33}, dtype), up = random({9, 33}, dtype), grad = random({9, 33}, dtype);
    const auto wide = [](const at::Tensor& x) { return x.to(at::kDouble); };
    EXPECT_LT(test::relative_error(kernels::swiglu(gate, up), kernels::swiglu(wide(gate), wide(up))), tolerance);
    const auto [dg, du] = kernels::swiglu_backward(grad, gate, up);
    const auto [eg, eu] = kernels::swiglu_backward(wide(grad), wide(gate), wide(up));
    EXPECT_LT(test::relative_error(dg, eg), tolerance);
    EXPECT_LT(test::relative_error(du, eu), tolerance);
  }
}

TEST(SwiGlu, RefusesWrongArguments) {
  const at::Tensor gate = random({3, 4});
  EXPECT_THROW(kernels::swiglu(gate, gate.slice(1, 1)), ShapeError);
  EXPECT_THROW(kernels::swiglu(gate, gate.to(at::kFloat)), ShapeError);
  EXPECT_THROW(kernels::swiglu(gate.to(at::kLong), gate), ShapeError);
  EXPECT_THROW(kernels::swiglu_backward(gate.slice(0, 1), gate, gate), ShapeError);
}

TEST(Linear, MatchesFloat64ForEveryDtypeAndSize) {
  // float32: a sum of up to 200 products at 2^-24 each; bfloat16: its outputs are rounded to 2^-9 of the largest.
  for (const auto& [dtype, tolerance] : {std::pair{at::kDouble, 1e-13}, {at::kFloat, 1e-5}, {at::kBFloat16, 5e-3}}) {
    for (const auto& [rows, in, out] : {std::tuple{1, 1, 1}, {5, 7, 3}, {130, 200, 70}, {0, 4, 3}}) {
      SCOPED_TRACE(testing::Message() << dtype << " " << rows << " " << in << " " << out);
      at::manual_seed(6);
      const at::Tensor x = random({rows, in}, dtype), w = random({out, in}, dtype), b = random({out}, dtype);
      const at::Tensor dy = random({rows, out}, dtype);
      const auto wide = [](const at::Tensor& t) { return t.to(at::kDouble); };
      EXPECT_LT(test::relative_error(kernels::linear(x, w, b, {}, {}), at::addmm(wide(b), wide(x), wide(w).t())),
                tolerance);
      EXPECT_LT(test::relative_error(kernels::linear_backward_input(dy, w), at::mm(wide(dy), wide(w))), tolerance);
      at::Tensor dw = at::ones({out, in}, dtype == at::kDouble ? at::kDouble : at::kFloat);
      kernels::linear_backward_weight(dy, x, dw);
      // The main grad of bfloat16 is float32: its tolerance is float32's.
      EXPECT_LT(test::relative_error(dw, at::mm(wide(dy).t(), wide(x)) + 1), std::min(tolerance, 1e-5));
    }
  }
}

TEST(Linear, RepeatsBitForBitAndARowIgnoresTheOthers) {
  at::manual_seed(8);
  at::Tensor x = random({150, 96}, at::kFloat);
  const at::Tensor w = random({64, 96}, at::kFloat), y = kernels::linear(x, w, {}, {}, {});
  EXPECT_TRUE(at::equal(y, kernels::linear(x, w, {}, {}, {})));
  x.slice(0, 75).normal_();
  EXPECT_TRUE(at::equal(y.slice(0, 0, 75), kernels::linear(x, w, {}, {}, {}).slice(0, 0, 75)));
}

TEST(Linear, RefusesWrongArguments) {
  const at::Tensor x = random({4, 3}), w = random({5, 3});
  EXPECT_THROW(kernels::linear(x, w.slice(1, 1), {}, {}, {}), ShapeError);
  EXPECT_THROW(kernels::linear(x, w.to(at::kFloat), {}, {}, {}), ShapeError);
  EXPECT_THROW(kernels::linear(x, w, random({4}), {}, {}), ShapeError);
  EXPECT_THROW(kernels::linear(x.select(0, 0), w, {}, {}, {}), ShapeError);
  at::Tensor narrow = at::zeros({5, 3}, at::kFloat);
  EXPECT_THROW(kernels::linear_backward_weight(random({4, 5}), x, narrow), ShapeError);
}

}  // namespace
}  // namespace fpdist
