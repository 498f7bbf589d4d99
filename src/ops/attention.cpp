#include <ATen/ATen.h>
#include <ATen/core/ivalue.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <memory>
#include <span>
#include <utility>

#include "fpdist/ops/functional.hpp"
#include "kernels/common/dispatch.hpp"
#include "kernels/tree_attention/library/run_calls.hpp"
#include "kernels/tree_attention/mask/pieces.hpp"
#include "kernels/tree_attention/schema.hpp"
#include "kernels/tree_attention/tree_attention.hpp"
#include "src/ops/decoding.hpp"

namespace fpdist::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// What lets a node of the graph hold all that is not differentiated.
struct HeldAttention : torch::CustomClassHolder {
  HeldAttention(AttentionMask mask, const AttentionOptions& options, AttentionCallsPtr calls)
      : mask(std::move(mask)), options(options), calls(std::move(calls)) {}
  AttentionMask mask;
  AttentionOptions options;
  AttentionCallsPtr calls;
};
using HeldAttentionPtr = c10::intrusive_ptr<HeldAttention>;

struct TreeAttention : torch::autograd::Function<TreeAttention> {
  static variable_list forward(AutogradContext* context, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                               const HeldAttentionPtr& held) {
    const at::AutoDispatchBelowAutograd below;
    const AttentionInputs in{q, k, v};
    const auto [out, lse] = held->calls ? kernels::run_calls(in, *held->calls, held->options)
                                        : kernels::tree_attention(in, held->mask, held->options);
    context->saved_data["held"] = at::IValue::make_capsule(held);
    context->save_for_backward({q, k, v, out, lse});
    context->mark_non_differentiable({lse});
    context->set_materialize_grads(false);
    return {out, lse};
  }
  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    if (!grads[0].defined()) return variable_list(4);
    const auto saved = context->get_saved_variables();
    const AttentionInputs in{saved[0], saved[1], saved[2]};
    const auto held = c10::static_intrusive_pointer_cast<HeldAttention>(context->saved_data["held"].toCapsule());
    const AttentionOutput own{saved[3], saved[4]};
    AttentionOptions options = held->options;
    options.rounded = true;  // nobody adds to them before autograd does
    const auto [dq, dk, dv] = held->calls ? kernels::run_calls_backward(grads[0], in, own, *held->calls, options)
                                          : kernels::tree_attention_backward(grads[0], in, own, held->mask, options);
    return {dq, dk, dv, {}};
  }
};

AttentionOutput differentiable(const AttentionInputs& in, const AttentionMask& mask, const AttentionOptions& options,
                               const AttentionCallsPtr& calls) {
  const auto result = TreeAttention::apply(in.q, in.k, in.v, c10::make_intrusive<HeldAttention>(mask, options, calls));
  return {result[0], result[1]};
}

AttentionOutput tree_attention_autograd(const AttentionInputs& in, const AttentionMask& mask,
                                        const AttentionOptions& options) {
  return differentiable(in, mask, options, nullptr);
}

int64_t capability_of(at::Device device) {
  static const auto ask = kernels::find_operator<int64_t(int64_t)>("fpdist::compute_capability");
  return ask.call(device.index());
}

}  // namespace

AttentionOutput tree_attention(const AttentionInputs& in, const AttentionMask& mask, const AttentionOptions& options,
                               const AttentionCallsPtr& calls) {
  AttentionOptions own = options;
  own.rounded = true;
  if (calls && !at::GradMode::is_enabled()) {
    const at::AutoDispatchBelowAutograd below;
    return kernels::run_calls(in, *calls, own);
  }
  // The operator's schema knows tensors only, so calls go round it.
  return calls ? differentiable(in, mask, own, calls) : kernels::tree_attention(in, mask, own);
}

AttentionCallsPtr prepare_attention(const AttentionMask& mask, at::Device device) {
  if (!device.is_cuda()) return nullptr;
  return std::make_shared<const kernels::AttentionCalls>(mask, device, capability_of(device));
}

std::shared_ptr<const KeyRuns> runs_of_keys(const at::Tensor& k_row, const at::Tensor& k_end) {
  const auto numbers = [](const at::Tensor& rows) {
    return std::span(rows.const_data_ptr<int32_t>(), static_cast<size_t>(rows.numel()));
  };
  return std::make_shared<const KeyRuns>(kernels::find_runs(numbers(k_row), numbers(k_end)));
}

AttentionCallsPtr prepare_decoding(const AttentionMask& mask, const KeyRuns& runs, at::Device device) {
  if (!device.is_cuda()) return nullptr;
  return std::make_shared<const kernels::AttentionCalls>(mask, runs, device, capability_of(device));
}

}  // namespace fpdist::ops

TORCH_LIBRARY_IMPL(fpdist, Autograd, m) {
  m.impl("tree_attention", fpdist::kernels::flat_forward<fpdist::ops::tree_attention_autograd>);
}
