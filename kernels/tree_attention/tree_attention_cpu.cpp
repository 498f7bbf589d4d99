// CPU twin of tree_attention: one call of torch's CPU flash attention per piece, merged by log-sum-exp.
#include <ATen/ATen.h>
#include <torch/library.h>

#include <span>

#include "kernels/checks.hpp"
#include "kernels/tree_attention/pieces.hpp"
#include "kernels/tree_attention/tree_attention.hpp"

namespace fpdist::kernels {
namespace {

std::span<const int32_t> as_span(const at::Tensor& rows) {
  return {rows.const_data_ptr<int32_t>(), static_cast<size_t>(rows.numel())};
}

std::vector<Piece> pieces_of(const at::Tensor& q_row, const at::Tensor& k_row, const at::Tensor& k_end) {
  const at::Tensor q = q_row.contiguous(), k = k_row.contiguous(), end = k_end.contiguous();
  return find_pieces(as_span(q), as_span(k), as_span(end));
}

/// [T,Hq,D] -> [Hkv,group,T,D] view.
at::Tensor grouped(const at::Tensor& x, int64_t key_heads) {
  return x.unflatten(1, {key_heads, x.size(1) / key_heads}).permute({1, 2, 0, 3});
}

/// [T,Hkv,D] -> [Hkv,group,T,D] view whose group stride is 0: grouped heads share their keys without a copy.
at::Tensor shared(const at::Tensor& x, int64_t group) {
  return x.transpose(0, 1).unsqueeze(1).expand({x.size(1), group, x.size(0), x.size(2)});
}

std::tuple<at::Tensor, at::Tensor> forward_cpu(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                               const at::Tensor& q_row, const at::Tensor& k_row,
                                               const at::Tensor& k_end, double scale) {
  check_tree_attention(q, k, v, q_row, k_row, k_end);
  const auto dtype = accumulate_dtype_of(q.scalar_type());
  const int64_t heads = k.size(1), group = q.size(1) / heads;
  at::Tensor out = at::zeros(q.sizes(), q.options().dtype(dtype));
  at::Tensor lse = at::full({q.size(0), q.size(1)}, -std::numeric_limits<double>::infinity(), out.options());
  const at::Tensor qa = grouped(q.to(dtype), heads), ka = shared(k.to(dtype), group), va = shared(v.to(dtype), group);
  const at::Tensor oa = grouped(out, heads), la = grouped(lse.unsqueeze(-1), heads);
  for (const Piece& piece : pieces_of(q_row, k_row, k_end)) {
    const auto [o, l] = at::_scaled_dot_product_flash_attention_for_cpu(
        qa.slice(2, piece.q_begin, piece.q_end), ka.slice(2, piece.k_begin, piece.k_end),
        va.slice(2, piece.k_begin, piece.k_end), 0.0, piece.is_causal, {}, scale);
    at::Tensor old_lse = la.slice(2, piece.q_begin, piece.q_end), old_out = oa.slice(2, piece.q_begin, piece.q_end);
    const at::Tensor part = l.unsqueeze(-1), merged = at::logaddexp(old_lse, part);
    old_out.mul_(at::exp(old_lse - merged)).addcmul_(o, at::exp(part - merged));
    old_lse.copy_(merged);
  }
  return {out, lse};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> backward_cpu(const at::Tensor& grad_out, const at::Tensor& q,
                                                            const at::Tensor& k, const at::Tensor& v,
                                                            const at::Tensor& out, const at::Tensor& lse,
                                                            const at::Tensor& q_row, const at::Tensor& k_row,
                                                            const at::Tensor& k_end, double scale) {
  check_tree_attention(q, k, v, q_row, k_row, k_end);
  const auto dtype = accumulate_dtype_of(q.scalar_type());
  check_sizes("tree_attention_backward", "grad_out", grad_out, q.sizes());
  check_sizes("tree_attention_backward", "out", out, q.sizes());
  check_sizes("tree_attention_backward", "lse", lse, {q.size(0), q.size(1)});
  check_dtype("tree_attention_backward", "out", out, dtype);
  check_dtype("tree_attention_backward", "lse", lse, dtype);
  const int64_t heads = k.size(1), group = q.size(1) / heads;
  const auto options = q.options().dtype(dtype);
  at::Tensor dq = at::zeros(q.sizes(), options), dk = at::zeros(k.sizes(), options), dv = at::zeros(k.sizes(), options);
  const at::Tensor ga = grouped(grad_out.to(dtype), heads), qa = grouped(q.to(dtype), heads);
  const at::Tensor ka = shared(k.to(dtype), group), va = shared(v.to(dtype), group);
  const at::Tensor oa = grouped(out, heads), la = grouped(lse.unsqueeze(-1), heads).squeeze(-1);
  const at::Tensor dqa = grouped(dq, heads), dka = dk.transpose(0, 1), dva = dv.transpose(0, 1);
  for (const Piece& piece : pieces_of(q_row, k_row, k_end)) {
    const auto queries = [&piece](const at::Tensor& x) { return x.slice(2, piece.q_begin, piece.q_end); };
    const auto keys = [&piece](const at::Tensor& x, int64_t dim) { return x.slice(dim, piece.k_begin, piece.k_end); };
    const auto [pq, pk, pv] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
        queries(ga), queries(qa), keys(ka, 2), keys(va, 2), queries(oa), queries(la), 0.0, piece.is_causal, {}, scale);
    queries(dqa).add_(pq);
    keys(dka, 1).add_(pk.sum(1));
    keys(dva, 1).add_(pv.sum(1));
  }
  return {dq, dk, dv};
}

}  // namespace
}  // namespace fpdist::kernels

TORCH_LIBRARY_IMPL(fpdist, CPU, m) {
  m.impl("tree_attention", fpdist::kernels::forward_cpu);
  m.impl("tree_attention_backward", fpdist::kernels::backward_cpu);
}
