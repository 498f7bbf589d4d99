#pragma once
// Tests: gradients without derivatives.

#include <ATen/ATen.h>

#include <functional>

namespace fpdist::test {

/// Central differences have an error of their own, about the square of their step.
inline constexpr double kDifferences = 1e-8;

/// Central differences of sum(f(x) * grad) in every element of x.
inline at::Tensor numeric_gradient(const std::function<at::Tensor(const at::Tensor&)>& f, const at::Tensor& x,
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

}  // namespace fpdist::test
