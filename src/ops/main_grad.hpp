#pragma once
// ops: how a weight gradient reaches its main grad.

#include <ATen/ATen.h>

#include <optional>

#include "fpdist/core/error.hpp"
#include "fpdist/ops/parameter.hpp"

namespace fpdist::ops {

inline std::optional<at::Tensor> main_grad_of(const Parameter& parameter) {
  return parameter.main_grad.defined() ? std::optional(parameter.main_grad) : std::nullopt;
}

/// The value as a weight of the graph: without a main grad the parameter is frozen and stays out of it.
inline at::Tensor trained_value(const Parameter& parameter) {
  check(parameter.value.defined(), "parameter '", parameter.name, "' has no value: load or initialise it first");
  return parameter.main_grad.defined() ? parameter.value : parameter.value.detach();
}

/// Runs add(sum): on the main grad when there is one (no gradient is left for autograd to pass on), else on a fresh
/// buffer that becomes the ordinary gradient, rounded once.
template <typename Add>
at::Tensor into_main_grad(const at::Tensor& weight, std::optional<at::Tensor> main_grad, Add add) {
  if (main_grad) {
    add(*main_grad);
    return {};
  }
  at::Tensor sum = at::zeros(weight.sizes(), weight.options().dtype(accumulate_dtype(weight.scalar_type())));
  add(sum);
  return sum.to(weight.scalar_type());
}

}  // namespace fpdist::ops
