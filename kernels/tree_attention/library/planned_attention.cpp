#include "kernels/tree_attention/library/planned_attention.hpp"

#include <ATen/ATen.h>

#include <limits>

#include "kernels/common/checks.hpp"
#include "kernels/tree_attention/library/varlen.hpp"
#include "kernels/tree_attention/tree_attention.hpp"

namespace fpdist::kernels {
namespace {

void check_plan(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionPlan& plan) {
  check_attention_tensors(q, k, v);
  check(q.size(0) == plan.queries() && k.size(0) == plan.keys(), "tree_attention: the plan is for ", plan.queries(),
        " queries and ", plan.keys(), " keys, the tensors have ", q.size(0), " and ", k.size(0));
  check(q.device() == plan.device(), "tree_attention: the plan is on ", plan.device(), ", q on ", q.device());
}

std::tuple<at::Tensor, at::Tensor> run_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                               const VarlenCall& call, const AttentionPlan& plan, double scale) {
  switch (choose_backend(question_of(q, call, plan))) {
    case Backend::kCudnn:
      return cudnn_forward(q, k, v, call, scale);
    case Backend::kFlash:
      return flash_forward(q, k, v, call, scale);
    case Backend::kMath:
      break;
  }
  return math_forward(q, k, v, call, scale);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> run_backward(const at::Tensor& grad_out, const at::Tensor& q,
                                                            const at::Tensor& k, const at::Tensor& v,
                                                            const at::Tensor& out, const at::Tensor& lse,
                                                            const VarlenCall& call, const AttentionPlan& plan,
                                                            double scale) {
  switch (choose_backend(question_of(q, call, plan))) {
    case Backend::kCudnn:
      return cudnn_backward(grad_out, q, k, v, out, lse, call, scale);
    case Backend::kFlash:
      return flash_backward(grad_out, q, k, v, out, lse, call, scale, plan.deterministic());
    case Backend::kMath:
      break;
  }
  return math_backward(grad_out, q, k, v, out, lse, call, scale);
}

/// Folds a call's part into the running out and lse of its rows.
void merge(at::Tensor& out, at::Tensor& lse, const RowSet& rows, const at::Tensor& part_out,
           const at::Tensor& part_lse) {
  const auto dtype = out.scalar_type();
  const double infinity = std::numeric_limits<double>::infinity();
  // No keys: FlashAttention 2 says +inf, cuDNN and FlashAttention 3 -inf. Both weigh nothing.
  const at::Tensor wide = part_lse.to(dtype), part = wide.masked_fill(wide.eq(infinity), -infinity);
  const at::Tensor before = rows.select(lse), merged = at::logaddexp(before, part);
  const at::Tensor finite = merged.masked_fill(merged.eq(-infinity), 0.0);
  const at::Tensor own = part_out.to(dtype).mul(at::exp(part - finite).unsqueeze(-1));
  rows.put(out, at::addcmul(own, rows.select(out), at::exp(before - finite).unsqueeze(-1)));
  rows.put(lse, merged);
}

}  // namespace

std::tuple<at::Tensor, at::Tensor> planned_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                     const AttentionPlan& plan, double scale) {
  check_plan(q, k, v, plan);
  const at::Tensor qc = q.contiguous(), kc = k.contiguous(), vc = v.contiguous();
  const auto options = q.options().dtype(accumulate_dtype_of(q.scalar_type()));
  at::Tensor out = at::zeros(q.sizes(), options);
  at::Tensor lse = at::full({q.size(0), q.size(1)}, -std::numeric_limits<double>::infinity(), options);
  bool is_first = true;
  for (const VarlenCall& call : plan.calls()) {
    const auto [part_out, part_lse] =
        run_forward(call.q.select(qc), call.k.select(kc), call.k.select(vc), call, plan, scale);
    if (is_first && call.level.is_causal) {  // nothing to merge with, and a query sees its own key: no empty row
      call.q.put(out, part_out);
      call.q.put(lse, part_lse);
    } else {
      merge(out, lse, call.q, part_out, part_lse);
    }
    is_first = false;
  }
  return {out, lse};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> planned_attention_backward(const at::Tensor& grad_out,
                                                                          const at::Tensor& q, const at::Tensor& k,
                                                                          const at::Tensor& v, const at::Tensor& out,
                                                                          const at::Tensor& lse,
                                                                          const AttentionPlan& plan, double scale) {
  check_plan(q, k, v, plan);
  check_tree_attention_backward(grad_out, q, out, lse);
  const at::Tensor qc = q.contiguous(), kc = k.contiguous(), vc = v.contiguous(), gc = grad_out.contiguous();
  const auto options = q.options().dtype(accumulate_dtype_of(q.scalar_type()));
  at::Tensor dq = at::zeros(q.sizes(), options), dk = at::zeros(k.sizes(), options), dv = at::zeros_like(dk);
  for (const VarlenCall& call : plan.calls()) {
    const auto [pq, pk, pv] = run_backward(call.q.select(gc), call.q.select(qc), call.k.select(kc), call.k.select(vc),
                                           call.q.select(out), call.q.select(lse), call, plan, scale);
    call.q.add(dq, pq);
    call.k.add(dk, pk);
    call.k.add(dv, pv);
  }
  return {dq, dk, dv};
}

}  // namespace fpdist::kernels
