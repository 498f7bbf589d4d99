// CPU twin of tree_attention: one call of torch's CPU flash attention per large piece, merged by log-sum-exp; runs of
// small pieces in loops of our own.
#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <limits>
#include <span>

#include "kernels/common/checks.hpp"
#include "kernels/tree_attention/cpu/small_piece.hpp"
#include "kernels/tree_attention/mask/pieces.hpp"
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

/// Rows with D contiguous elements a head and heads side by side: what the small-piece loops walk.
template <typename A>
HeadView<A> make_view(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& out,
                      const at::Tensor& lse, double scale) {
  HeadView<A> view{};
  view.q = q.const_data_ptr<A>(), view.k = k.const_data_ptr<A>(), view.v = v.const_data_ptr<A>();
  view.out = out.data_ptr<A>(), view.lse = lse.data_ptr<A>();
  view.q_stride = q.stride(0), view.kv_stride = k.stride(0), view.out_stride = out.stride(0),
  view.lse_stride = lse.stride(0);
  view.group = q.size(1) / k.size(1), view.head_size = q.size(2), view.scale = static_cast<A>(scale);
  return view;
}

/// The same problem at key head `head`.
template <typename A>
HeadView<A> at_head(HeadView<A> view, int64_t head) {
  const int64_t queries = head * view.group * view.head_size, keys = head * view.head_size;
  view.q += queries, view.out += queries, view.lse += head * view.group;
  view.k += keys, view.v += keys;
  if (view.grad) view.grad += queries, view.dq += queries, view.dk += keys, view.dv += keys;
  return view;
}

/// Runs body(view at head, piece) over small pieces, threads sharing the key heads: every total has one writer.
template <typename A, typename Body>
void for_heads(const HeadView<A>& view, int64_t heads, std::span<const Piece> pieces, Body body) {
  at::parallel_for(0, heads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t head = begin; head < end; ++head) {
      const HeadView<A> one = at_head(view, head);
      for (const Piece& piece : pieces) body(one, piece);
    }
  });
}

/// Walks the pieces in order: runs of small ones together, the others one by one.
template <typename Small, typename Large>
void walk(std::span<const Piece> pieces, Small small, Large large) {
  for (size_t begin = 0, end = 0; begin < pieces.size(); begin = end) {
    end = begin + 1;
    if (!is_small(pieces[begin])) {
      large(pieces[begin]);
      continue;
    }
    while (end < pieces.size() && is_small(pieces[end])) ++end;
    small(pieces.subspan(begin, end - begin));
  }
}

void merge_piece(at::Tensor out, at::Tensor lse, const at::Tensor& part_out, const at::Tensor& part_lse,
                 bool is_first) {
  if (is_first) {
    out.copy_(part_out);
    lse.copy_(part_lse);
    return;
  }
  const at::Tensor merged = at::logaddexp(lse, part_lse);
  out.mul_(at::exp(lse - merged)).addcmul_(part_out, at::exp(part_lse - merged));
  lse.copy_(merged);
}

std::tuple<at::Tensor, at::Tensor> forward_cpu(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                               const at::Tensor& q_row, const at::Tensor& k_row,
                                               const at::Tensor& k_end, double scale) {
  check_tree_attention(q, k, v, q_row, k_row, k_end);
  const auto dtype = accumulate_dtype_of(q.scalar_type());
  const int64_t heads = k.size(1), group = q.size(1) / heads;
  const at::Tensor qc = q.to(dtype).contiguous(), kc = k.to(dtype).contiguous(), vc = v.to(dtype).contiguous();
  at::Tensor out = at::zeros(qc.sizes(), qc.options());
  at::Tensor lse = at::full({q.size(0), q.size(1)}, -std::numeric_limits<double>::infinity(), out.options());
  const at::Tensor qa = grouped(qc, heads), ka = shared(kc, group), va = shared(vc, group);
  const at::Tensor oa = grouped(out, heads), la = grouped(lse.unsqueeze(-1), heads);
  int64_t first_untouched = 0;  // pieces may only overwrite what none before has reached
  const auto large = [&](const Piece& piece) {
    const auto [o, l] = at::_scaled_dot_product_flash_attention_for_cpu(
        qa.slice(2, piece.q_begin, piece.q_end), ka.slice(2, piece.k_begin, piece.k_end),
        va.slice(2, piece.k_begin, piece.k_end), 0.0, piece.is_causal, {}, scale);
    merge_piece(oa.slice(2, piece.q_begin, piece.q_end), la.slice(2, piece.q_begin, piece.q_end), o, l.unsqueeze(-1),
                piece.q_begin >= first_untouched);
    first_untouched = std::max(first_untouched, piece.q_end);
  };
  const std::vector<Piece> pieces = pieces_of(q_row, k_row, k_end);
  AT_DISPATCH_FLOATING_TYPES(dtype, "tree_attention", [&] {
    const auto view = make_view<scalar_t>(qc, kc, vc, out, lse, scale);
    const auto small = [&](std::span<const Piece> run) {
      for_heads(view, heads, run, [](const auto& one, const Piece& piece) { small_piece_forward(one, piece); });
      for (const Piece& piece : run) first_untouched = std::max(first_untouched, piece.q_end);
    };
    walk(pieces, small, large);
  });
  return {out, lse};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> backward_cpu(const at::Tensor& grad_out, const at::Tensor& q,
                                                            const at::Tensor& k, const at::Tensor& v,
                                                            const at::Tensor& out, const at::Tensor& lse,
                                                            const at::Tensor& q_row, const at::Tensor& k_row,
                                                            const at::Tensor& k_end, double scale) {
  check_tree_attention(q, k, v, q_row, k_row, k_end);
  check_tree_attention_backward(grad_out, q, out, lse);
  const auto dtype = accumulate_dtype_of(q.scalar_type());
  const int64_t heads = k.size(1), group = q.size(1) / heads;
  const at::Tensor qc = q.to(dtype).contiguous(), kc = k.to(dtype).contiguous(), vc = v.to(dtype).contiguous();
  const at::Tensor gc = grad_out.to(dtype).contiguous(), oc = out.contiguous(), lc = lse.contiguous();
  at::Tensor dq = at::zeros_like(qc), dk = at::zeros_like(kc), dv = at::zeros_like(kc);
  const at::Tensor ga = grouped(gc, heads), qa = grouped(qc, heads), ka = shared(kc, group), va = shared(vc, group);
  const at::Tensor oa = grouped(oc, heads), la = grouped(lc.unsqueeze(-1), heads).squeeze(-1);
  const at::Tensor dqa = grouped(dq, heads), dka = dk.transpose(0, 1), dva = dv.transpose(0, 1);
  const auto large = [&](const Piece& piece) {
    const auto queries = [&piece](const at::Tensor& x) { return x.slice(2, piece.q_begin, piece.q_end); };
    const auto keys = [&piece](const at::Tensor& x, int64_t dim) { return x.slice(dim, piece.k_begin, piece.k_end); };
    const auto [pq, pk, pv] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
        queries(ga), queries(qa), keys(ka, 2), keys(va, 2), queries(oa), queries(la), 0.0, piece.is_causal, {}, scale);
    queries(dqa).add_(pq);
    keys(dka, 1).add_(group == 1 ? pk.squeeze(1) : pk.sum(1));
    keys(dva, 1).add_(group == 1 ? pv.squeeze(1) : pv.sum(1));
  };
  const std::vector<Piece> pieces = pieces_of(q_row, k_row, k_end);
  AT_DISPATCH_FLOATING_TYPES(dtype, "tree_attention_backward", [&] {
    auto view = make_view<scalar_t>(qc, kc, vc, oc, lc, scale);
    view.grad = gc.const_data_ptr<scalar_t>(), view.grad_stride = gc.stride(0), view.dkv_stride = dk.stride(0);
    view.dq = dq.data_ptr<scalar_t>(), view.dk = dk.data_ptr<scalar_t>(), view.dv = dv.data_ptr<scalar_t>();
    const auto small = [&](std::span<const Piece> run) {
      for_heads(view, heads, run, [](const auto& one, const Piece& piece) { small_piece_backward(one, piece); });
    };
    walk(pieces, small, large);
  });
  return {dq, dk, dv};
}

}  // namespace
}  // namespace fpdist::kernels

TORCH_LIBRARY_IMPL(fpdist, CPU, m) {
  m.impl("tree_attention", fpdist::kernels::forward_cpu);
  m.impl("tree_attention_backward", fpdist::kernels::backward_cpu);
}
