#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "fpdist/ops/functional.hpp"
#include "kernels/tree_attention/tree_attention.hpp"

namespace fpdist::ops {
namespace {

struct TreeAttention : torch::autograd::Function<TreeAttention> {
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context, const at::Tensor& q,
                                                const at::Tensor& k, const at::Tensor& v, const at::Tensor& q_row,
                                                const at::Tensor& k_row, const at::Tensor& k_end, double scale) {
    const at::AutoDispatchBelowAutograd below;
    auto [out, lse] = kernels::tree_attention(q, k, v, q_row, k_row, k_end, scale);
    context->save_for_backward({q, k, v, q_row, k_row, k_end, out, lse});
    context->saved_data["scale"] = scale;
    context->mark_non_differentiable({lse});
    context->set_materialize_grads(false);
    return {out, lse};
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grads) {
    if (!grads[0].defined()) return torch::autograd::variable_list(7);
    const auto saved = context->get_saved_variables();
    const at::Tensor &q = saved[0], &k = saved[1], &v = saved[2];
    auto [dq, dk, dv] = kernels::tree_attention_backward(grads[0], q, k, v, saved[6], saved[7], saved[3], saved[4],
                                                         saved[5], context->saved_data["scale"].toDouble());
    return {dq.to(q.scalar_type()), dk.to(k.scalar_type()), dv.to(v.scalar_type()), {}, {}, {}, {}};
  }
};

std::tuple<at::Tensor, at::Tensor> tree_attention_autograd(const at::Tensor& q, const at::Tensor& k,
                                                           const at::Tensor& v, const at::Tensor& q_row,
                                                           const at::Tensor& k_row, const at::Tensor& k_end,
                                                           double scale) {
  const auto result = TreeAttention::apply(q, k, v, q_row, k_row, k_end, scale);
  return {result[0], result[1]};
}

}  // namespace

std::tuple<at::Tensor, at::Tensor> tree_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                  const at::Tensor& q_row, const at::Tensor& k_row,
                                                  const at::Tensor& k_end, double scale) {
  auto [out, lse] = kernels::tree_attention(q, k, v, q_row, k_row, k_end, scale);
  return {out.to(q.scalar_type()), lse};
}

}  // namespace fpdist::ops

TORCH_LIBRARY_IMPL(fpdist, Autograd, m) { m.impl("tree_attention", fpdist::ops::tree_attention_autograd); }
