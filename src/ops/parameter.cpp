#include "fpdist/ops/parameter.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <set>
#include <utility>

#include "fpdist/core/error.hpp"
#include "kernels/common/checks.hpp"
#include "src/ops/main_grad.hpp"

namespace fpdist::ops {
namespace {

void check_parameters(const std::vector<ParameterPtr>& parameters) {
  std::set<const Parameter*> seen;
  for (const auto& parameter : parameters) {
    check(parameter && parameter->value.defined(), "FlatParameters: a parameter has no value");
    check(seen.insert(parameter.get()).second, "FlatParameters: ", parameter->name,
          " appears twice: pass a tied parameter once");
    const at::Tensor &value = parameter->value, &first = parameters[0]->value;
    check(value.is_leaf(), "FlatParameters: ", parameter->name, " is not a leaf: detach it first");
    check(value.scalar_type() == first.scalar_type() && value.device() == first.device(),
          "FlatParameters: ", parameter->name, " is ", value.scalar_type(), " on ", value.device(), ", ",
          parameters[0]->name, " is ", first.scalar_type(), " on ", first.device(),
          ": one flat buffer holds one dtype on one device");
  }
}

}  // namespace

at::ScalarType accumulate_dtype(at::ScalarType model_dtype) { return kernels::accumulate_dtype_of(model_dtype); }

FlatParameters::FlatParameters(std::vector<ParameterPtr> parameters) : parameters_(std::move(parameters)) {
  check_parameters(parameters_);
  const at::NoGradGuard no_grad;
  std::stable_partition(parameters_.begin(), parameters_.end(), [](const auto& p) { return p->decay(); });
  int64_t size = 0;
  for (const auto& parameter : parameters_) {
    offset_.push_back(size);
    size += parameter->value.numel();
    if (parameter->decay()) decayed_ = size;
  }
  for (const auto& parameter : parameters_) parameter->main_grad.reset();  // or memory would hold them twice
  const auto options = parameters_.empty() ? at::TensorOptions() : parameters_[0]->value.options().requires_grad(false);
  value_ = at::empty({size}, options);
  main_grad_ = at::zeros({size}, options.dtype(accumulate_dtype(value_.scalar_type())));
  for (size_t i = 0; i < parameters_.size(); ++i) {
    Parameter& parameter = *parameters_[i];
    const auto view = [&](const at::Tensor& flat) {
      return flat.narrow(0, offset_[i], parameter.value.numel()).view(parameter.value.sizes());
    };
    at::Tensor value = view(value_);
    value.copy_(parameter.value);
    parameter.value.set_data(value);  // the same leaf: handles that others hold follow it into the buffer
    parameter.value.set_requires_grad(true);
    parameter.main_grad = view(main_grad_);
    parameter.state = c10::make_intrusive<GradientState>();
  }
}

void FlatParameters::begin_gradients() {
  for (const auto& parameter : parameters_) {
    parameter->state->is_empty = true;
    parameter->value.mutable_grad().reset();
  }
}

void FlatParameters::settle_gradients(size_t first, size_t last) {
  const at::NoGradGuard no_grad;
  for (size_t i = first; i < last; ++i)
    if (std::exchange(parameters_[i]->state->is_empty, false)) parameters_[i]->main_grad.zero_();
}

void FlatParameters::fold_gradients() {
  const at::NoGradGuard no_grad;
  for (const auto& parameter : parameters_) {
    at::Tensor& grad = parameter->value.mutable_grad();
    if (!grad.defined()) continue;
    MainGrad(*parameter).add(grad);
    grad.reset();
  }
}

}  // namespace fpdist::ops
