#include "src/ops/main_grad.hpp"

#include <ATen/core/ivalue.h>

namespace fpdist::ops {
namespace {

/// What lets a node of the graph hold it.
struct HeldState : torch::CustomClassHolder {
  explicit HeldState(c10::intrusive_ptr<GradientState> state) : state(std::move(state)) {}
  c10::intrusive_ptr<GradientState> state;
};

std::string state_of(const std::string& name) { return name + ".state"; }

}  // namespace

void MainGrad::save(torch::autograd::AutogradContext& context, const std::string& name) const {
  context.saved_data[name] = sum_;
  if (state_) context.saved_data[state_of(name)] = at::IValue::make_capsule(c10::make_intrusive<HeldState>(state_));
}

MainGrad MainGrad::saved(const torch::autograd::AutogradContext& context, const std::string& name) {
  MainGrad saved(context.saved_data.at(name).toOptional<at::Tensor>());
  if (const auto held = context.saved_data.find(state_of(name)); held != context.saved_data.end())
    saved.state_ = static_cast<HeldState*>(held->second.toCapsule().get())->state;
  return saved;
}

}  // namespace fpdist::ops
