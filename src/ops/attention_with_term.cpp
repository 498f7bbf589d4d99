#include <ATen/ATen.h>
#include <ATen/core/ivalue.h>
#include <torch/csrc/autograd/custom_function.h>

#include <utility>

#include "src/ops/attention_term.hpp"
#include "src/ops/partial_attention.hpp"

namespace fpdist::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// All that is not differentiated here.
struct HeldWithTerm : torch::CustomClassHolder {
  HeldWithTerm(AttentionMask mask, const AttentionOptions& options, AttentionCallsPtr calls, AttentionTermPtr term)
      : mask(std::move(mask)), options(options), calls(std::move(calls)), term(std::move(term)) {}
  AttentionMask mask;
  AttentionOptions options;
  AttentionCallsPtr calls;
  AttentionTermPtr term;
};
using HeldPtr = c10::intrusive_ptr<HeldWithTerm>;

struct AttentionWithTerm : torch::autograd::Function<AttentionWithTerm> {
  /// `trained`: both of the term, so that there is a graph even where q, k and v come from frozen weights.
  static at::Tensor forward(AutogradContext* context, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const at::Tensor& trained, const at::Tensor& also_trained, const HeldPtr& held) {
    (void)trained, (void)also_trained;
    const at::AutoDispatchBelowAutograd below;
    AttentionOutput whole = partial_attention({q, k, v}, held->mask, held->options, held->calls);
    held->term->merge(whole, q, held->options, {});
    const at::Tensor rounded = whole.out.to(q.scalar_type());
    context->save_for_backward({q, k, v, rounded, whole.lse});
    context->saved_data["held"] = c10::IValue::make_capsule(held);
    return rounded;
  }
  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const auto saved = context->get_saved_variables();
    const auto held = c10::static_intrusive_pointer_cast<HeldWithTerm>(context->saved_data["held"].toCapsule());
    const at::Tensor& q = saved[0];
    const AttentionOutput whole{saved[3].to(saved[4].scalar_type()), saved[4]};
    const at::Tensor grad = grads[0].contiguous();
    auto [dq, dk, dv] =
        partial_attention_backward(grad, {q, saved[1], saved[2]}, whole, held->mask, held->options, held->calls);
    const auto [own, other] = held->term->backward(grad, q, whole, held->options, {}, dq);
    return {dq.to(q.scalar_type()), dk.to(q.scalar_type()), dv.to(q.scalar_type()), own, other, {}};
  }
};

}  // namespace

at::Tensor attention_with_term(const AttentionInputs& in, const AttentionMask& mask, const AttentionOptions& options,
                               const AttentionCallsPtr& calls, const AttentionTermPtr& term) {
  const auto [trained, also_trained] = term->trained();
  return AttentionWithTerm::apply(in.q, in.k, in.v, trained, also_trained,
                                  c10::make_intrusive<HeldWithTerm>(mask, options, calls, term));
}

}  // namespace fpdist::ops
