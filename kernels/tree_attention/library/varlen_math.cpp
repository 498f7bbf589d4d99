// One call in batched matrix products: exact in the accumulation dtype, the reference of the other two, and
// what float32 and float64 run on. Grouped heads are folded into the rows, so keys are never repeated.
// Legend: G query heads a key head, B queries in a block, N keys that the block sees.
#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

#include "kernels/common/checks.hpp"
#include "kernels/tree_attention/library/varlen.hpp"

namespace fpdist::kernels {
namespace {

/// [T,Hq,D] -> [Hkv, G*T, D].
at::Tensor by_key_head(const at::Tensor& x, int64_t key_heads) {
  return x.unflatten(1, {key_heads, x.size(1) / key_heads}).permute({1, 2, 0, 3}).flatten(1, 2);
}

/// [Hkv, G*T, D] -> [T,Hq,D].
at::Tensor by_row(const at::Tensor& x, int64_t group) {
  return x.unflatten(1, {group, x.size(1) / group}).permute({2, 0, 1, 3}).flatten(1, 2);
}

/// Blocks of queries of every segment: visit(first query, queries, first key, keys, queries before it in the segment),
/// in gathered rows, at most `most` query-key pairs a block.
template <typename Visit>
void for_blocks(const VarlenCall& call, int64_t most, Visit visit) {
  int64_t q_first = 0, k_first = 0;
  for (const Piece& piece : call.level.piece) {
    const int64_t queries = piece.q_end - piece.q_begin, keys = piece.k_end - piece.k_begin;
    const int64_t step = std::max<int64_t>(1, most / keys);
    for (int64_t begin = 0; begin < queries; begin += step) {
      const int64_t end = std::min(queries, begin + step);
      visit(q_first + begin, end - begin, k_first, piece.is_causal ? end : keys, begin);
    }
    q_first += queries, k_first += keys;
  }
}

/// [Hkv, G*B, N] scores of a block, -inf where the causal mask hides a key.
at::Tensor scores_of(const at::Tensor& q, const at::Tensor& k, int64_t group, int64_t before, bool is_causal,
                     double scale) {
  at::Tensor scores = at::bmm(q, k.transpose(1, 2)).mul_(scale);
  if (!is_causal) return scores;
  const int64_t queries = q.size(1) / group, keys = k.size(1);
  const at::Tensor place = at::arange(before, before + queries, q.options().dtype(at::kLong)).repeat({group});
  const at::Tensor hidden = at::arange(keys, place.options()).unsqueeze(0).gt(place.unsqueeze(1));
  return scores.masked_fill_(hidden, -std::numeric_limits<double>::infinity());
}

}  // namespace

AttentionOutput math_forward(const AttentionInputs& in, const VarlenCall& call, const AttentionOptions& options,
                             int64_t score_bytes) {
  const auto& [q, k, v] = in;
  const auto dtype = accumulate_dtype_of(q.scalar_type());
  const int64_t heads = k.size(1), group = q.size(1) / heads;
  const at::Tensor qa = q.to(dtype), ka = k.to(dtype).transpose(0, 1), va = v.to(dtype).transpose(0, 1);
  at::Tensor out = at::empty(q.sizes(), qa.options()), lse = at::empty({q.size(0), q.size(1)}, qa.options());
  for_blocks(
      call, score_bytes / (q.size(1) * qa.element_size()),
      [&](int64_t first, int64_t count, int64_t key, int64_t keys, int64_t before) {
        const at::Tensor scores = scores_of(by_key_head(qa.narrow(0, first, count), heads), ka.narrow(1, key, keys),
                                            group, before, call.level.is_causal, options.scale);
        const at::Tensor sum = at::logsumexp(scores, {-1}, /*keepdim=*/true);  // [Hkv, G*B, 1]
        out.narrow(0, first, count).copy_(by_row(at::bmm(at::exp(scores - sum), va.narrow(1, key, keys)), group));
        lse.narrow(0, first, count).copy_(by_row(sum, group).squeeze(-1));
      });
  return {out, lse};
}

AttentionGradients math_backward(const at::Tensor& grad_out, const AttentionInputs& in, const AttentionOutput& merged,
                                 const VarlenCall& call, const AttentionOptions& options, int64_t score_bytes) {
  const auto& [q, k, v] = in;
  const auto dtype = accumulate_dtype_of(q.scalar_type());
  const int64_t heads = k.size(1), group = q.size(1) / heads;
  const at::Tensor qa = q.to(dtype), ka = k.to(dtype).transpose(0, 1), va = v.to(dtype).transpose(0, 1);
  const at::Tensor grad = grad_out.to(dtype), delta = grad.mul(merged.out).sum(-1, /*keepdim=*/true);  // [Tq,Hq,1]
  const at::Tensor wide_lse = merged.lse.to(dtype).unsqueeze(-1);
  at::Tensor dq = at::empty(q.sizes(), qa.options());
  at::Tensor dk = at::zeros({heads, k.size(0), k.size(2)}, qa.options()), dv = at::zeros_like(dk);
  for_blocks(call, score_bytes / (q.size(1) * qa.element_size()),
             [&](int64_t first, int64_t count, int64_t key, int64_t keys, int64_t before) {
               const auto rows = [&](const at::Tensor& x) { return by_key_head(x.narrow(0, first, count), heads); };
               const at::Tensor block = rows(qa), dy = rows(grad), near = ka.narrow(1, key, keys);
               const at::Tensor p =
                   at::exp(scores_of(block, near, group, before, call.level.is_causal, options.scale) - rows(wide_lse));
               const at::Tensor ds =
                   at::bmm(dy, va.narrow(1, key, keys).transpose(1, 2)).sub_(rows(delta)).mul_(p).mul_(options.scale);
               dq.narrow(0, first, count).copy_(by_row(at::bmm(ds, near), group));
               dk.narrow(1, key, keys).add_(at::bmm(ds.transpose(1, 2), block));
               dv.narrow(1, key, keys).add_(at::bmm(p.transpose(1, 2), dy));
             });
  return {dq, dk.transpose(0, 1), dv.transpose(0, 1)};
}

}  // namespace fpdist::kernels
