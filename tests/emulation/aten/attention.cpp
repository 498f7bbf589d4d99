// torch's fused attentions, which have no CPU kernel: FlashAttention 2 over segments (a causal call is aligned at the
// bottom right) and cuDNN over one dense batch (aligned at the top left), in float64 on the host, with the two
// operators' layouts and what they refuse.
#include "tests/emulation/aten/attention.hpp"

#include <ATen/ATen.h>
#include <torch/library.h>

#include <cmath>
#include <limits>
#include <optional>
#include <tuple>
#include <vector>

namespace fpdist::emulated {
namespace {

using Optional = std::optional<at::Tensor>;

struct Segment {
  int64_t q = 0, q_rows = 0, k = 0, k_rows = 0;
};

/// One segment's scores [H,Q,K] in float64; hidden ones are -inf. q [Q,Hq,D], k [K,Hkv,D].
at::Tensor scores_of(const at::Tensor& q, const at::Tensor& k, double scale, bool is_causal, bool bottom_right) {
  const int64_t share = q.size(1) / k.size(1);
  const at::Tensor keys = k.repeat_interleave(share, 1);
  at::Tensor scores = at::einsum("qhd,khd->hqk", {q, keys}) * scale;
  if (is_causal) {
    const int64_t shift = bottom_right ? k.size(0) - q.size(0) : 0;
    const at::Tensor seen = at::ones({q.size(0), k.size(0)}, at::kBool).tril(shift);
    scores.masked_fill_(seen.logical_not(), -std::numeric_limits<double>::infinity());
  }
  return scores;
}

/// Sums over the query heads that share a key-value head.
at::Tensor fold_heads(const at::Tensor& grad, int64_t heads) {
  return grad.view({grad.size(0), heads, grad.size(1) / heads, grad.size(2)}).sum(2);
}

struct Problem {
  at::Tensor q, k, v;  // float64, [T,H,D]
  std::vector<Segment> segment;
  double scale = 1;
  bool is_causal = false, bottom_right = true;
};

std::tuple<at::Tensor, at::Tensor> forward(const Problem& problem) {
  at::Tensor out = at::zeros(problem.q.sizes(), at::kDouble);
  at::Tensor lse = at::zeros({problem.q.size(1), problem.q.size(0)}, at::kDouble);
  for (const Segment& s : problem.segment) {
    const at::Tensor q = problem.q.narrow(0, s.q, s.q_rows), k = problem.k.narrow(0, s.k, s.k_rows);
    const at::Tensor v = problem.v.narrow(0, s.k, s.k_rows).repeat_interleave(q.size(1) / problem.v.size(1), 1);
    const at::Tensor scores = scores_of(q, k, problem.scale, problem.is_causal, problem.bottom_right);
    const at::Tensor sums = scores.logsumexp(2);
    lse.narrow(1, s.q, s.q_rows).copy_(sums);
    const at::Tensor weights = (scores - sums.unsqueeze(2)).exp().nan_to_num(0);
    out.narrow(0, s.q, s.q_rows).copy_(at::einsum("hqk,khd->qhd", {weights, v}));
  }
  return {out, lse};
}

/// lse [H,T] and out are those of all keys, of which these may be a part.
std::tuple<at::Tensor, at::Tensor, at::Tensor> backward(const Problem& problem, const at::Tensor& grad_out,
                                                        const at::Tensor& out, const at::Tensor& lse) {
  at::Tensor dq = at::zeros(problem.q.sizes(), at::kDouble), dk = at::zeros(problem.k.sizes(), at::kDouble);
  at::Tensor dv = at::zeros(problem.v.sizes(), at::kDouble);
  const int64_t heads = problem.k.size(1), share = problem.q.size(1) / heads;
  for (const Segment& s : problem.segment) {
    const at::Tensor q = problem.q.narrow(0, s.q, s.q_rows), k = problem.k.narrow(0, s.k, s.k_rows);
    const at::Tensor v = problem.v.narrow(0, s.k, s.k_rows).repeat_interleave(share, 1);
    const at::Tensor go = grad_out.narrow(0, s.q, s.q_rows), o = out.narrow(0, s.q, s.q_rows);
    const at::Tensor scores = scores_of(q, k, problem.scale, problem.is_causal, problem.bottom_right);
    const at::Tensor weights = (scores - lse.narrow(1, s.q, s.q_rows).unsqueeze(2)).exp().nan_to_num(0);
    const at::Tensor delta = (go * o).sum(2).t().unsqueeze(2);
    const at::Tensor ds = weights * (at::einsum("qhd,khd->hqk", {go, v}) - delta) * problem.scale;
    dq.narrow(0, s.q, s.q_rows).copy_(at::einsum("hqk,khd->qhd", {ds, k.repeat_interleave(share, 1)}));
    dk.narrow(0, s.k, s.k_rows).add_(fold_heads(at::einsum("hqk,qhd->khd", {ds, q}), heads));
    dv.narrow(0, s.k, s.k_rows).add_(fold_heads(at::einsum("hqk,qhd->khd", {weights, go}), heads));
  }
  return {dq, dk, dv};
}

at::Tensor wide(const at::Tensor& tensor) { return on_host(tensor).to(at::kDouble); }

void check_fused(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, int64_t largest_head) {
  for (const at::Tensor* x : {&q, &k, &v}) {
    TORCH_CHECK(x->is_cuda() && (x->scalar_type() == at::kBFloat16 || x->scalar_type() == at::kHalf),
                "fused attention takes bfloat16 and float16 on the GPU");
    TORCH_CHECK(x->stride(-1) == 1, "fused attention needs neighbouring elements in the last dim");
    TORCH_CHECK(x->size(-1) % 8 == 0 && x->size(-1) <= largest_head, "fused attention: head size ", x->size(-1));
  }
}

Problem flash_problem(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& cum_q,
                      const at::Tensor& cum_k, int64_t max_q, int64_t max_k, bool is_causal,
                      std::optional<double> scale) {
  check_fused(q, k, v, 256);
  TORCH_CHECK(q.dim() == 3 && cum_q.defined() && cum_k.defined(), "emulated GPU: only flash over segments is known");
  for (const at::Tensor* cum : {&cum_q, &cum_k})
    TORCH_CHECK(cum->is_cuda() && cum->scalar_type() == at::kInt && cum->is_contiguous(),
                "cum_seq is int32 on the GPU");
  Problem problem{.q = wide(q),
                  .k = wide(k),
                  .v = wide(v),
                  .segment = {},
                  .scale = scale.value_or(1 / std::sqrt(static_cast<double>(q.size(2)))),
                  .is_causal = is_causal};
  const at::Tensor begin_q = on_host(cum_q), begin_k = on_host(cum_k);
  TORCH_CHECK(begin_q.numel() > 1 && begin_q.numel() == begin_k.numel(), "flash: batch size must be positive");
  // Single queries of grouped heads change places inside, and none may be missing then.
  TORCH_CHECK(max_q > 1 || q.size(1) == k.size(1) || q.size(0) == begin_q.numel() - 1,
              "flash: shape is invalid: ", q.size(0), " single queries in ", begin_q.numel() - 1, " segments");
  for (int64_t i = 0; i + 1 < begin_q.numel(); ++i) {
    const auto at = [i](const at::Tensor& begin, int64_t next) { return int64_t{begin.data_ptr<int32_t>()[i + next]}; };
    const Segment s{at(begin_q, 0), at(begin_q, 1) - at(begin_q, 0), at(begin_k, 0), at(begin_k, 1) - at(begin_k, 0)};
    TORCH_CHECK(s.q_rows <= max_q && s.k_rows <= max_k, "flash: a segment of ", s.q_rows, " and ", s.k_rows,
                " rows, longest said: ", max_q, " and ", max_k);
    problem.segment.push_back(s);
  }
  return problem;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> flash_forward(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const Optional& cum_q, const Optional& cum_k,
    c10::SymInt max_q, c10::SymInt max_k, double, bool is_causal, bool, std::optional<double> scale,
    std::optional<c10::SymInt>, std::optional<c10::SymInt>, const Optional&, const Optional&) {
  const auto [out, lse] = forward(flash_problem(q, k, v, cum_q.value_or(at::Tensor()), cum_k.value_or(at::Tensor()),
                                                max_q.expect_int(), max_k.expect_int(), is_causal, scale));
  const at::Tensor none = at::empty({0}, q.options());
  return {on_device(out.to(q.scalar_type()), q), on_device(lse.to(at::kFloat), q), none, none, none};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> flash_backward(
    const at::Tensor& grad_out, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& out,
    const at::Tensor& lse, const at::Tensor& cum_q, const at::Tensor& cum_k, c10::SymInt max_q, c10::SymInt max_k,
    double, bool is_causal, const at::Tensor&, const at::Tensor&, std::optional<double> scale,
    std::optional<c10::SymInt>, std::optional<c10::SymInt>) {
  TORCH_CHECK(lse.is_contiguous() && lse.scalar_type() == at::kFloat && lse.size(0) == q.size(1), "flash: lse is ",
              lse.sizes(), ", wanted: [heads, rows] in float32");
  const auto [dq, dk, dv] =
      backward(flash_problem(q, k, v, cum_q, cum_k, max_q.expect_int(), max_k.expect_int(), is_causal, scale),
               wide(grad_out), wide(out), wide(lse));
  const auto rounded = [&](const at::Tensor& grad) { return on_device(grad.to(q.scalar_type()), q); };
  return {rounded(dq), rounded(dk), rounded(dv)};
}

/// [1,H,T,D] -> [T,H,D]
at::Tensor rows_of(const at::Tensor& batch) {
  TORCH_CHECK(batch.dim() == 4 && batch.size(0) == 1,
              "emulated GPU: only a batch of one is known to cuDNN's attention");
  return batch.squeeze(0).transpose(0, 1);
}
at::Tensor batch_of(const at::Tensor& rows) { return rows.transpose(0, 1).unsqueeze(0); }

Problem cudnn_problem(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, bool is_causal,
                      std::optional<double> scale) {
  check_fused(q, k, v, 128);
  return {.q = wide(rows_of(q)),
          .k = wide(rows_of(k)),
          .v = wide(rows_of(v)),
          .segment = {{0, q.size(2), 0, k.size(2)}},
          .scale = scale.value_or(1 / std::sqrt(static_cast<double>(q.size(3)))),
          .is_causal = is_causal,
          .bottom_right = false};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, c10::SymInt, c10::SymInt, at::Tensor, at::Tensor, at::Tensor>
cudnn_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const Optional&, const Optional&,
              const Optional&, c10::SymInt max_q, c10::SymInt max_k, bool, double, bool is_causal, bool,
              std::optional<double> scale) {
  const auto [out, lse] = forward(cudnn_problem(q, k, v, is_causal, scale));
  const at::Tensor none = at::empty({0}, q.options());
  return {on_device(batch_of(out.to(q.scalar_type())), q),
          on_device(lse.to(at::kFloat).view({1, q.size(1), q.size(2), 1}), q),
          none,
          none,
          max_q,
          max_k,
          none,
          none,
          none};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> cudnn_backward(
    const at::Tensor& grad_out, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& out,
    const at::Tensor& lse, const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
    const at::Tensor&, c10::SymInt, c10::SymInt, double, bool is_causal, std::optional<double> scale) {
  const auto [dq, dk, dv] = backward(cudnn_problem(q, k, v, is_causal, scale), wide(rows_of(grad_out)),
                                     wide(rows_of(out)), wide(lse).view({q.size(1), q.size(2)}));
  const auto rounded = [&](const at::Tensor& grad) { return on_device(batch_of(grad.to(q.scalar_type())), q); };
  return {rounded(dq), rounded(dk), rounded(dv)};
}

}  // namespace

void register_attention(torch::Library& m) {
  m.impl("_flash_attention_forward", TORCH_FN(flash_forward));
  m.impl("_flash_attention_backward", TORCH_FN(flash_backward));
  m.impl("_cudnn_attention_forward", TORCH_FN(cudnn_forward));
  m.impl("_cudnn_attention_backward", TORCH_FN(cudnn_backward));
}

}  // namespace fpdist::emulated
