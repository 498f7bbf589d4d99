#pragma once
// ops: how a weight gradient reaches its main grad.

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>
#include <string>
#include <utility>

#include "fpdist/core/error.hpp"
#include "fpdist/ops/parameter.hpp"

namespace fpdist::ops {

/// A parameter's main grad, if it has one, as a node of the graph keeps it until its backward.
class MainGrad {
 public:
  MainGrad() = default;
  /// One that is never empty.
  explicit MainGrad(std::optional<at::Tensor> sum) : sum_(std::move(sum)) {}
  explicit MainGrad(const Parameter& parameter) : state_(parameter.state) {
    if (parameter.main_grad.defined()) sum_ = parameter.main_grad;
  }

  const std::optional<at::Tensor>& sum() const { return sum_; }
  /// write(sum, accumulates) has to add the gradient to `sum`, or, where that is empty, to write over it. There must be
  /// a main grad.
  template <typename Write>
  void put(Write write) {
    write(*sum_, !state_ || !std::exchange(state_->is_empty, false));
  }
  void add(const at::Tensor& gradient) {
    put([&](at::Tensor& sum, bool accumulates) { accumulates ? sum.add_(gradient) : sum.copy_(gradient); });
  }

  void save(torch::autograd::AutogradContext& context, const std::string& name) const;
  static MainGrad saved(const torch::autograd::AutogradContext& context, const std::string& name);

 private:
  std::optional<at::Tensor> sum_;
  c10::intrusive_ptr<GradientState> state_;
};

/// The value as a weight of the graph: without a main grad the parameter is frozen and stays out of it.
inline at::Tensor trained_value(const Parameter& parameter) {
  check(parameter.value.defined(), "parameter '", parameter.name, "' has no value: load or initialise it first");
  return parameter.main_grad.defined() ? parameter.value : parameter.value.detach();
}

/// Runs write(sum, accumulates) on the main grad when there is one (no gradient is left for autograd to pass on), else
/// on a fresh buffer that becomes the ordinary gradient, rounded once.
template <typename Write>
at::Tensor into_main_grad(const at::Tensor& weight, MainGrad main_grad, Write write) {
  if (main_grad.sum()) {
    main_grad.put(write);
    return {};
  }
  at::Tensor sum = at::empty(weight.sizes(), weight.options().dtype(accumulate_dtype(weight.scalar_type())));
  write(sum, /*accumulates=*/false);
  return sum.to(weight.scalar_type());
}

}  // namespace fpdist::ops
