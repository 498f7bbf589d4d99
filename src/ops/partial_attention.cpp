#include "src/ops/partial_attention.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "fpdist/core/error.hpp"
#include "kernels/tree_attention/library/planned_attention.hpp"
#include "kernels/tree_attention/tree_attention.hpp"

namespace fpdist::ops {

std::tuple<at::Tensor, at::Tensor> partial_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                     const at::Tensor& q_row, const at::Tensor& k_row,
                                                     const at::Tensor& k_end, double scale,
                                                     const AttentionPlanPtr& plan) {
  const at::NoGradGuard no_grad;
  if (plan) return kernels::planned_attention(q, k, v, *plan, scale);
  return kernels::tree_attention(q, k, v, q_row, k_row, k_end, scale);
}

void merge_attention(at::Tensor& out, at::Tensor& lse, const at::Tensor& part_out, const at::Tensor& part_lse) {
  check(out.sizes() == part_out.sizes() && lse.sizes() == part_lse.sizes(), "merge_attention: parts of ", out.sizes(),
        " and ", part_out.sizes(), ": merge outputs of the same queries");
  check(out.scalar_type() == part_out.scalar_type() && out.scalar_type() == lse.scalar_type(),
        "merge_attention: out is ", out.scalar_type(), ", the part ", part_out.scalar_type(),
        ": both must be in the accumulation dtype");
  const at::NoGradGuard no_grad;
  const at::Tensor merged = at::logaddexp(lse, part_lse);
  // A row without keys on either side: keep it at zero instead of exp(-inf - -inf).
  const at::Tensor finite = merged.masked_fill(at::isneginf(merged), 0.0);
  out.mul_(at::exp(lse - finite).unsqueeze(-1)).addcmul_(part_out, at::exp(part_lse - finite).unsqueeze(-1));
  lse.copy_(merged);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> partial_attention_backward(
    const at::Tensor& grad_out, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& out,
    const at::Tensor& lse, const at::Tensor& q_row, const at::Tensor& k_row, const at::Tensor& k_end, double scale,
    const AttentionPlanPtr& plan) {
  const at::NoGradGuard no_grad;
  if (plan) return kernels::planned_attention_backward(grad_out, q, k, v, out, lse, *plan, scale);
  return kernels::tree_attention_backward(grad_out, q, k, v, out, lse, q_row, k_row, k_end, scale);
}

}  // namespace fpdist::ops
