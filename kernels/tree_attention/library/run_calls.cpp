#include "kernels/tree_attention/library/run_calls.hpp"

#include <ATen/ATen.h>

#include <limits>

#include "kernels/common/checks.hpp"
#include "kernels/tree_attention/decode/decode_attention.hpp"
#include "kernels/tree_attention/library/varlen.hpp"
#include "kernels/tree_attention/merge.hpp"
#include "kernels/tree_attention/tiled/tiled_attention.hpp"
#include "kernels/tree_attention/tree_attention.hpp"

namespace fpdist::kernels {
namespace {

void check_calls(const AttentionInputs& in, const AttentionCalls& calls) {
  check_attention_inputs(in);
  check(in.q.size(0) == calls.queries() && in.k.size(0) == calls.keys(), "tree_attention: the calls are for ",
        calls.queries(), " queries and ", calls.keys(), " keys, the tensors have ", in.q.size(0), " and ",
        in.k.size(0));
  check(in.q.device() == calls.device(), "tree_attention: the calls are on ", calls.device(), ", q on ", in.q.device());
}

AttentionInputs contiguous(const AttentionInputs& in) {
  return {in.q.contiguous(), in.k.contiguous(), in.v.contiguous()};
}

/// The rows of one call, gathered.
AttentionInputs rows_of(const VarlenCall& call, const AttentionInputs& in) {
  return {call.q.select(in.q), call.k.select(in.k), call.k.select(in.v)};
}
AttentionOutput rows_of(const VarlenCall& call, const AttentionOutput& whole) {
  return {call.q.select(whole.out), call.q.select(whole.lse)};
}

Backend backend_of(const AttentionInputs& in, const VarlenCall& call, const AttentionCalls& calls,
                   const AttentionOptions& options) {
  return choose_backend(question_of(in.q, call, calls.capability(), options.deterministic));
}

AttentionOutput run_forward(const AttentionInputs& in, const VarlenCall& call, const AttentionCalls& calls,
                            const AttentionOptions& options) {
  switch (backend_of(in, call, calls, options)) {
    case Backend::kCudnn:
      return cudnn_forward(in, call, options);
    case Backend::kFlash:
      return flash_forward(in, call, options);
    case Backend::kMath:
      break;
  }
  return math_forward(in, call, options);
}

AttentionGradients run_backward(const at::Tensor& grad_out, const AttentionInputs& in, const AttentionOutput& merged,
                                const VarlenCall& call, const AttentionCalls& calls, const AttentionOptions& options) {
  switch (backend_of(in, call, calls, options)) {
    case Backend::kCudnn:
      return cudnn_backward(grad_out, in, merged, call, options);
    case Backend::kFlash:
      return flash_backward(grad_out, in, merged, call, options);
    case Backend::kMath:
      break;
  }
  return math_backward(grad_out, in, merged, call, options);
}

/// Folds the running output of a call's rows into the call's part, which is gathered already, and puts the sum back.
void fold(AttentionOutput& whole, const VarlenCall& call, const AttentionOutput& part) {
  const auto dtype = whole.out.scalar_type();
  const double infinity = std::numeric_limits<double>::infinity();
  // No keys: FlashAttention 2 says +inf, cuDNN and FlashAttention 3 -inf. Both weigh nothing.
  const at::Tensor lse = part.lse.to(dtype);
  AttentionOutput rows{part.out.to(dtype), lse.masked_fill(lse.eq(infinity), -infinity)};
  merge_attention(rows, rows_of(call, whole));
  call.q.put(whole.out, rows.out);
  call.q.put(whole.lse, rows.lse);
}

}  // namespace

AttentionOutput run_calls(const AttentionInputs& in, const AttentionCalls& calls, const AttentionOptions& options) {
  check_calls(in, calls);
  if (const DecodeTables* const tables = decode_tables(in, calls, options))
    return decode_attention(in, *tables, options);
  return is_tiled(in, calls, options) ? tiled_attention(in, *calls.tiles(), options) : run_levels(in, calls, options);
}

AttentionOutput run_levels(const AttentionInputs& in, const AttentionCalls& calls, const AttentionOptions& options) {
  const AttentionInputs own = contiguous(in);
  const auto wide = in.q.options().dtype(accumulate_dtype_of(in.q.scalar_type()));
  AttentionOutput whole{at::zeros(in.q.sizes(), wide),
                        at::full({in.q.size(0), in.q.size(1)}, -std::numeric_limits<double>::infinity(), wide)};
  bool is_first = true;
  for (const VarlenCall& call : calls.list()) {
    const AttentionOutput part = run_forward(rows_of(call, own), call, calls, options);
    if (is_first && call.level.is_causal) {  // nothing to merge with, and a query sees its own key: no empty row
      call.q.put(whole.out, part.out);
      call.q.put(whole.lse, part.lse);
    } else {
      fold(whole, call, part);
    }
    is_first = false;
  }
  if (options.rounded) whole.out = whole.out.to(in.q.scalar_type());
  return whole;
}

AttentionGradients run_calls_backward(const at::Tensor& grad_out, const AttentionInputs& in,
                                      const AttentionOutput& merged, const AttentionCalls& calls,
                                      const AttentionOptions& options) {
  check_calls(in, calls);
  check_tree_attention_backward(grad_out, in.q, merged);
  return is_tiled(in, calls, options) ? tiled_attention_backward(grad_out, in, merged, *calls.tiles(), options)
                                      : run_levels_backward(grad_out, in, merged, calls, options);
}

AttentionGradients run_levels_backward(const at::Tensor& grad_out, const AttentionInputs& in,
                                       const AttentionOutput& merged, const AttentionCalls& calls,
                                       const AttentionOptions& options) {
  const AttentionInputs own = contiguous(in);
  const at::Tensor grad = grad_out.contiguous();
  const auto wide = in.q.options().dtype(accumulate_dtype_of(in.q.scalar_type()));
  at::Tensor dq = at::zeros(in.q.sizes(), wide), dk = at::zeros(in.k.sizes(), wide), dv = at::zeros_like(dk);
  for (const VarlenCall& call : calls.list()) {
    const auto [pq, pk, pv] =
        run_backward(call.q.select(grad), rows_of(call, own), rows_of(call, merged), call, calls, options);
    call.q.add(dq, pq);
    call.k.add(dk, pk);
    call.k.add(dv, pv);
  }
  if (!options.rounded) return {dq, dk, dv};
  const auto dtype = in.q.scalar_type();
  return {dq.to(dtype), dk.to(dtype), dv.to(dtype)};
}

}  // namespace fpdist::kernels
