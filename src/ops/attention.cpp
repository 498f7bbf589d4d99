#include <ATen/ATen.h>
#include <ATen/core/ivalue.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <memory>
#include <utility>

#include "fpdist/ops/functional.hpp"
#include "kernels/common/dispatch.hpp"
#include "kernels/tree_attention/library/planned_attention.hpp"
#include "kernels/tree_attention/tree_attention.hpp"

namespace fpdist::ops {
namespace {

/// What lets a node of the graph hold a plan.
struct HeldPlan : torch::CustomClassHolder {
  explicit HeldPlan(AttentionPlanPtr plan) : plan(std::move(plan)) {}
  AttentionPlanPtr plan;
};

struct TreeAttention : torch::autograd::Function<TreeAttention> {
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context, const at::Tensor& q,
                                                const at::Tensor& k, const at::Tensor& v, const at::Tensor& q_row,
                                                const at::Tensor& k_row, const at::Tensor& k_end, double scale,
                                                const AttentionPlanPtr& plan) {
    const at::AutoDispatchBelowAutograd below;
    auto [out, lse] = plan ? kernels::planned_attention(q, k, v, *plan, scale)
                           : kernels::tree_attention(q, k, v, q_row, k_row, k_end, scale);
    if (plan) context->saved_data["plan"] = at::IValue::make_capsule(c10::make_intrusive<HeldPlan>(plan));
    context->save_for_backward({q, k, v, q_row, k_row, k_end, out, lse});
    context->saved_data["scale"] = scale;
    context->mark_non_differentiable({lse});
    context->set_materialize_grads(false);
    return {out, lse};
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grads) {
    if (!grads[0].defined()) return torch::autograd::variable_list(8);
    const auto saved = context->get_saved_variables();
    const at::Tensor &q = saved[0], &k = saved[1], &v = saved[2];
    const double scale = context->saved_data["scale"].toDouble();
    const auto held = context->saved_data.find("plan");
    auto [dq, dk, dv] =
        held == context->saved_data.end()
            ? kernels::tree_attention_backward(grads[0], q, k, v, saved[6], saved[7], saved[3], saved[4], saved[5],
                                               scale)
            : kernels::planned_attention_backward(grads[0], q, k, v, saved[6], saved[7],
                                                  *static_cast<HeldPlan*>(held->second.toCapsule().get())->plan, scale);
    return {dq.to(q.scalar_type()), dk.to(k.scalar_type()), dv.to(v.scalar_type()), {}, {}, {}, {}, {}};
  }
};

std::tuple<at::Tensor, at::Tensor> tree_attention_autograd(const at::Tensor& q, const at::Tensor& k,
                                                           const at::Tensor& v, const at::Tensor& q_row,
                                                           const at::Tensor& k_row, const at::Tensor& k_end,
                                                           double scale) {
  const auto result = TreeAttention::apply(q, k, v, q_row, k_row, k_end, scale, AttentionPlanPtr());
  return {result[0], result[1]};
}

}  // namespace

std::tuple<at::Tensor, at::Tensor> tree_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                  const at::Tensor& q_row, const at::Tensor& k_row,
                                                  const at::Tensor& k_end, double scale, const AttentionPlanPtr& plan) {
  // The operator's schema knows tensors only, so a plan goes round it.
  if (plan) {
    const auto result = TreeAttention::apply(q, k, v, q_row, k_row, k_end, scale, plan);
    return {result[0].to(q.scalar_type()), result[1]};
  }
  auto [out, lse] = kernels::tree_attention(q, k, v, q_row, k_row, k_end, scale);
  return {out.to(q.scalar_type()), lse};
}

AttentionPlanPtr prepare_attention(const at::Tensor& q_row, const at::Tensor& k_row, const at::Tensor& k_end,
                                   at::Device device, bool deterministic) {
  if (!device.is_cuda()) return nullptr;
  const auto capability = kernels::find_operator<int64_t(int64_t)>("fpdist::compute_capability").call(device.index());
  return std::make_shared<const kernels::AttentionPlan>(q_row.contiguous(), k_row.contiguous(), k_end.contiguous(),
                                                        device, capability, deterministic);
}

}  // namespace fpdist::ops

TORCH_LIBRARY_IMPL(fpdist, Autograd, m) { m.impl("tree_attention", fpdist::ops::tree_attention_autograd); }
