#include "src/ops/frozen_weight.hpp"

#include <ATen/ATen.h>
#include <ATen/core/ivalue.h>

#include <optional>
#include <utility>

#include "fpdist/core/error.hpp"
#include "kernels/linear/linear.hpp"
#include "kernels/linear/packed_weight.hpp"

namespace fpdist::ops {
namespace {

using OptionalTensor = std::optional<at::Tensor>;
using QuantizedPtr = std::shared_ptr<const QuantizedWeight>;

constexpr const char* kHeld = "quantized_weight";

/// What lets a node of the graph hold one.
struct HeldWeight : torch::CustomClassHolder {
  explicit HeldWeight(QuantizedPtr held) : weight(std::move(held)) {}
  QuantizedPtr weight;
};

struct QuantizedLinear : torch::autograd::Function<QuantizedLinear> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, const FrozenWeight& weight,
                            const OptionalTensor& bias, const OptionalTensor& residual) {
    const at::AutoDispatchBelowAutograd below;
    context->save_for_backward({weight.save(*context)});
    context->saved_data["needs_x"] = x.requires_grad();
    context->saved_data["needs_residual"] = residual && residual->requires_grad();
    return kernels::linear(x, weight.value(), bias, std::nullopt, std::nullopt, residual);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grads) {
    const FrozenWeight weight = FrozenWeight::saved(*context, context->get_saved_variables()[0]);
    at::Tensor dx, d_residual;
    if (context->saved_data["needs_x"].toBool()) dx = kernels::linear_backward_input(grads[0], weight.value());
    if (context->saved_data["needs_residual"].toBool()) d_residual = grads[0];
    return {dx, {}, {}, d_residual};
  }
};

}  // namespace

FrozenWeight::FrozenWeight(const Parameter& parameter) : quantized_(parameter.quantized) {
  check(quantized_ != nullptr || parameter.value.defined(), "parameter '", parameter.name,
        "' has no value: load or initialise it first");
  if (!quantized_) dense_ = parameter.value.detach();
}

at::IntArrayRef sizes_of(const Parameter& parameter) {
  check(parameter.quantized != nullptr || parameter.value.defined(), "parameter '", parameter.name,
        "' has no value: load or initialise it first");
  return parameter.quantized ? at::IntArrayRef(parameter.quantized->matrix.sizes) : parameter.value.sizes();
}

void set_packed(Parameter& parameter, bool packed) {
  parameter.packed = packed && parameter.value.defined() ? kernels::pack_weight(parameter.value.detach()) : nullptr;
}

at::Tensor frozen_value(const Parameter& parameter) { return FrozenWeight(parameter).value(); }

at::Tensor FrozenWeight::save(torch::autograd::AutogradContext& context) const {
  if (quantized_) context.saved_data[kHeld] = at::IValue::make_capsule(c10::make_intrusive<HeldWeight>(quantized_));
  return dense_;
}

FrozenWeight FrozenWeight::saved(const torch::autograd::AutogradContext& context, const at::Tensor& dense) {
  FrozenWeight weight;
  weight.dense_ = dense;
  if (const auto held = context.saved_data.find(kHeld); held != context.saved_data.end())
    weight.quantized_ = static_cast<HeldWeight*>(held->second.toCapsule().get())->weight;
  return weight;
}

at::Tensor quantized_linear(const at::Tensor& x, const Parameter& weight, const Parameter* bias,
                            const at::Tensor& residual) {
  const OptionalTensor bias_value = bias ? OptionalTensor(bias->value.detach()) : std::nullopt;
  const OptionalTensor addend = residual.defined() ? OptionalTensor(residual) : std::nullopt;
  return QuantizedLinear::apply(x, FrozenWeight(weight), bias_value, addend);
}

}  // namespace fpdist::ops
