// Divergence from a base model with the vocabulary cut over the ranks.
// Legend: V_r own vocabulary slice, R rows that reach the head, P ranks.
#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <utility>
#include <vector>

#include "src/core/index.hpp"
#include "src/ops/partial_kl.hpp"
#include "src/parallel/tensor/tensor_parallel.hpp"

namespace fpdist::parallel {
namespace {

/// Every slice's part, stacked in rank order: one gather.
ops::PartialKl gather_parts(const ops::PartialKl& mine, comm::Communicator* tp) {
  const int64_t ranks = tp == nullptr ? 1 : tp->size(), rows = mine.lse.numel();
  const at::Tensor packed = at::cat({mine.difference, mine.lse, mine.base_lse});
  at::Tensor all = packed.unsqueeze(0);
  if (ranks > 1) {
    all = at::empty({ranks, packed.numel()}, packed.options());
    tp->all_gather_v(packed, all, std::vector<int64_t>(index(ranks), packed.numel()));
  }
  return {all.narrow(1, 0, rows), all.narrow(1, rows, rows), all.narrow(1, 2 * rows, rows)};
}

struct BaseKl : torch::autograd::Function<BaseKl> {
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context, const at::Tensor& hidden,
                                                const at::Tensor& weight, const at::Tensor& base_hidden,
                                                const at::Tensor& base_weight, const ops::MainGrad& main_grad,
                                                double temperature, comm::Communicator* tp) {
    const at::AutoDispatchBelowAutograd below;
    const ops::KlOperands of{hidden.detach(), weight.detach(), base_hidden, base_weight, temperature};
    const ops::MergedKl merged = ops::merge_kl(gather_parts(ops::partial_kl(of), tp));
    context->save_for_backward({hidden, weight, base_hidden, base_weight, merged.lse, merged.base_lse});
    context->saved_data["temperature"] = temperature;
    main_grad.save(*context, "main_grad");
    return {merged.kl};
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grads) {
    torch::autograd::variable_list result(7);
    const auto saved = context->get_saved_variables();
    const ops::KlOperands of{saved[0].detach(), saved[1].detach(), saved[2], saved[3],
                             context->saved_data["temperature"].toDouble()};
    result[0] = ops::partial_kl_backward(grads[0], of, {.kl = {}, .lse = saved[4], .base_lse = saved[5]},
                                         ops::MainGrad::saved(*context, "main_grad"));
    return result;
  }
};

}  // namespace

at::Tensor base_kl(const at::Tensor& hidden, const ops::Parameter& weight, const at::Tensor& base_hidden,
                   const ops::Parameter& base_weight, double temperature, comm::Communicator* tp) {
  return BaseKl::apply(hidden, ops::trained_value(weight), base_hidden.detach(), base_weight.value.detach(),
                       ops::MainGrad(weight), temperature, tp)[0];
}

}  // namespace fpdist::parallel
