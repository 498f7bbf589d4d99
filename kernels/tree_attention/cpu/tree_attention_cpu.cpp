// CPU twin of tree_attention. On processors and dtypes that blocked/ is written for, its kernels; elsewhere, and in
// float64, one call of torch's CPU flash attention per large piece, merged by log-sum-exp, and runs of small pieces in
// loops of our own.
#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <limits>
#include <span>

#include "kernels/common/wide.hpp"
#include "kernels/tree_attention/blocked/blocked_attention.hpp"
#include "kernels/tree_attention/cpu/small_piece.hpp"
#include "kernels/tree_attention/mask/pieces.hpp"
#include "kernels/tree_attention/merge.hpp"
#include "kernels/tree_attention/schema.hpp"
#include "kernels/tree_attention/tree_attention.hpp"

namespace fpdist::kernels {
namespace {

std::span<const int32_t> as_span(const at::Tensor& rows) {
  return {rows.const_data_ptr<int32_t>(), static_cast<size_t>(rows.numel())};
}

std::vector<Piece> pieces_of(const AttentionMask& mask) {
  const at::Tensor q = mask.q_row.contiguous(), k = mask.k_row.contiguous(), end = mask.k_end.contiguous();
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
HeadView<A> make_view(const AttentionInputs& in, const AttentionOutput& output, double scale) {
  const auto& [q, k, v] = in;
  const auto& [out, lse] = output;
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

/// In the accumulation dtype, rows packed.
AttentionInputs packed(const AttentionInputs& in) {
  return {wide(in.q).contiguous(), wide(in.k).contiguous(), wide(in.v).contiguous()};
}

AttentionOutput forward_cpu(const AttentionInputs& in, const AttentionMask& mask, const AttentionOptions& options) {
  check_tree_attention(in, mask);
  if (const BlockedKernel* kernel = best_blocked_kernel(in.q.scalar_type(), in.q.size(2)))
    return blocked_attention(in, mask, options, *kernel);
  const AttentionInputs all = packed(in);
  const at::Tensor &q = all.q, &k = all.k;
  const int64_t heads = k.size(1), group = q.size(1) / heads;
  AttentionOutput whole{at::zeros(q.sizes(), q.options()),
                        at::full({q.size(0), q.size(1)}, -std::numeric_limits<double>::infinity(), q.options())};
  const at::Tensor qa = grouped(q, heads), ka = shared(k, group), va = shared(all.v, group);
  const at::Tensor oa = grouped(whole.out, heads), la = grouped(whole.lse.unsqueeze(-1), heads).squeeze(-1);
  int64_t first_untouched = 0;  // pieces may only overwrite what none before has reached
  const auto large = [&](const Piece& piece) {
    const auto [o, l] = at::_scaled_dot_product_flash_attention_for_cpu(
        qa.slice(2, piece.q_begin, piece.q_end), ka.slice(2, piece.k_begin, piece.k_end),
        va.slice(2, piece.k_begin, piece.k_end), 0.0, piece.is_causal, {}, options.scale);
    AttentionOutput rows{oa.slice(2, piece.q_begin, piece.q_end), la.slice(2, piece.q_begin, piece.q_end)};
    if (piece.q_begin >= first_untouched)
      rows.out.copy_(o), rows.lse.copy_(l);
    else
      merge_attention(rows, {o, l});
    first_untouched = std::max(first_untouched, piece.q_end);
  };
  const std::vector<Piece> pieces = pieces_of(mask);
  AT_DISPATCH_FLOATING_TYPES(q.scalar_type(), "tree_attention", [&] {
    const auto view = make_view<scalar_t>(all, whole, options.scale);
    const auto small = [&](std::span<const Piece> run) {
      for_heads(view, heads, run, [](const auto& one, const Piece& piece) { small_piece_forward(one, piece); });
      for (const Piece& piece : run) first_untouched = std::max(first_untouched, piece.q_end);
    };
    walk(pieces, small, large);
  });
  if (options.rounded) whole.out = whole.out.to(in.q.scalar_type());
  return whole;
}

AttentionGradients backward_cpu(const at::Tensor& grad_out, const AttentionInputs& in, const AttentionOutput& merged,
                                const AttentionMask& mask, const AttentionOptions& options) {
  check_tree_attention(in, mask);
  check_tree_attention_backward(grad_out, in.q, merged);
  if (const BlockedKernel* kernel = best_blocked_kernel(in.q.scalar_type(), in.q.size(2)))
    return blocked_attention_backward(grad_out, in, merged, mask, options, *kernel);
  const AttentionInputs all = packed(in);
  const at::Tensor &q = all.q, &k = all.k;
  const int64_t heads = k.size(1), group = q.size(1) / heads;
  const at::Tensor grad = wide(grad_out).contiguous();
  const AttentionOutput whole{wide(merged.out).contiguous(), merged.lse.contiguous()};
  at::Tensor dq = at::zeros_like(q), dk = at::zeros_like(k), dv = at::zeros_like(all.v);
  const at::Tensor ga = grouped(grad, heads), qa = grouped(q, heads);
  const at::Tensor ka = shared(k, group), va = shared(all.v, group);
  const at::Tensor oa = grouped(whole.out, heads), la = grouped(whole.lse.unsqueeze(-1), heads).squeeze(-1);
  const at::Tensor dqa = grouped(dq, heads), dka = dk.transpose(0, 1), dva = dv.transpose(0, 1);
  const auto large = [&](const Piece& piece) {
    const auto queries = [&piece](const at::Tensor& x) { return x.slice(2, piece.q_begin, piece.q_end); };
    const auto keys = [&piece](const at::Tensor& x, int64_t dim) { return x.slice(dim, piece.k_begin, piece.k_end); };
    const auto [pq, pk, pv] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
        queries(ga), queries(qa), keys(ka, 2), keys(va, 2), queries(oa), queries(la), 0.0, piece.is_causal, {},
        options.scale);
    queries(dqa).add_(pq);
    keys(dka, 1).add_(group == 1 ? pk.squeeze(1) : pk.sum(1));
    keys(dva, 1).add_(group == 1 ? pv.squeeze(1) : pv.sum(1));
  };
  const std::vector<Piece> pieces = pieces_of(mask);
  AT_DISPATCH_FLOATING_TYPES(q.scalar_type(), "tree_attention_backward", [&] {
    auto view = make_view<scalar_t>(all, whole, options.scale);
    view.grad = grad.const_data_ptr<scalar_t>(), view.grad_stride = grad.stride(0), view.dkv_stride = dk.stride(0);
    view.dq = dq.data_ptr<scalar_t>(), view.dk = dk.data_ptr<scalar_t>(), view.dv = dv.data_ptr<scalar_t>();
    const auto small = [&](std::span<const Piece> run) {
      for_heads(view, heads, run, [](const auto& one, const Piece& piece) { small_piece_backward(one, piece); });
    };
    walk(pieces, small, large);
  });
  if (!options.rounded) return {dq, dk, dv};
  const auto dtype = in.q.scalar_type();
  return {dq.to(dtype), dk.to(dtype), dv.to(dtype)};
}

}  // namespace
}  // namespace fpdist::kernels

TORCH_LIBRARY_IMPL(fpdist, CPU, m) {
  m.impl("tree_attention", fpdist::kernels::flat_forward<fpdist::kernels::forward_cpu>);
  m.impl("tree_attention_backward", fpdist::kernels::flat_backward<fpdist::kernels::backward_cpu>);
}
