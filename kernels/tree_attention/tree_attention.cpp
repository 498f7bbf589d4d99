#include "kernels/tree_attention/tree_attention.hpp"

#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "kernels/common/checks.hpp"
#include "kernels/common/dispatch.hpp"
#include "kernels/common/wide.hpp"
#include "kernels/tree_attention/schema.hpp"

namespace fpdist::kernels {
namespace {

constexpr const char* kName = "tree_attention";

void check_rows(const char* name, const at::Tensor& rows, int64_t size) {
  check(rows.defined() && rows.scalar_type() == at::kInt && rows.dim() == 1 && rows.size(0) == size, kName, ": ", name,
        " must be int32 of shape [", size, "], one number per row of its tensor");
  check(rows.device().is_cpu(), kName, ": ", name, " is on ", rows.device(),
        ": row numbers stay on the CPU whatever the device of q, the host lays the call out from them");
}

}  // namespace

void check_attention_inputs(const AttentionInputs& in) {
  const auto& [q, k, v] = in;
  check_model_tensor(kName, "q", q, 3);
  for (const auto& [name, tensor] : {std::pair{"k", &k}, {"v", &v}}) {
    check_model_tensor(kName, name, *tensor, 3);
    check_dtype(kName, name, *tensor, q.scalar_type());
    check(tensor->device() == q.device(), kName, ": ", name, " is on ", tensor->device(), ", q on ", q.device());
  }
  check(k.sizes() == v.sizes(), kName, ": k has shape ", k.sizes(), ", v ", v.sizes(), ": they must agree");
  check(q.size(2) == k.size(2), kName, ": head size of q is ", q.size(2), ", of k ", k.size(2));
  check(k.size(1) > 0 && q.size(1) % k.size(1) == 0, kName, ": ", q.size(1), " query heads over ", k.size(1),
        " key heads: the first must be a multiple of the second");
}

void check_tree_attention(const AttentionInputs& in, const AttentionMask& mask) {
  check_attention_inputs(in);
  check_rows("q_row", mask.q_row, in.q.size(0));
  check_rows("k_row", mask.k_row, in.k.size(0));
  check_rows("k_end", mask.k_end, in.k.size(0));
}

void check_tree_attention_backward(const at::Tensor& grad_out, const at::Tensor& q, const AttentionOutput& merged) {
  const auto& [out, lse] = merged;
  constexpr const char* kBackward = "tree_attention_backward";
  const auto dtype = accumulate_dtype_of(q.scalar_type());
  check_sizes(kBackward, "grad_out", grad_out, q.sizes());
  check_sizes(kBackward, "out", out, q.sizes());
  check_sizes(kBackward, "lse", lse, {q.size(0), q.size(1)});
  if (out.scalar_type() != q.scalar_type()) check_dtype(kBackward, "out", out, dtype);
  check_dtype(kBackward, "lse", lse, dtype);
  for (const auto& [name, tensor] : {std::pair{"grad_out", &grad_out}, {"out", &out}, {"lse", &lse}})
    check_device(kBackward, name, *tensor, q);
}

AttentionOutput tree_attention(const AttentionInputs& in, const AttentionMask& mask, const AttentionOptions& options) {
  static const auto op = find_operator<FlatForward>("fpdist::tree_attention");
  const auto [out, lse] = op.call(in.q, in.k, in.v, mask.q_row, mask.k_row, mask.k_end, options.scale, options.rounded);
  return {out, lse};
}

AttentionGradients tree_attention_backward(const at::Tensor& grad_out, const AttentionInputs& in,
                                           const AttentionOutput& merged, const AttentionMask& mask,
                                           const AttentionOptions& options) {
  static const auto op = find_operator<FlatBackward>("fpdist::tree_attention_backward");
  const auto [dq, dk, dv] = op.call(grad_out, in.q, in.k, in.v, merged.out, merged.lse, mask.q_row, mask.k_row,
                                    mask.k_end, options.scale, options.rounded);
  return {dq, dk, dv};
}

namespace {

at::Tensor result_like(const at::Tensor& input, bool rounded) {
  return rounded ? at::empty(input.sizes(), input.options()) : wide_like(input, input.sizes());
}

AttentionOutput forward_meta(const AttentionInputs& in, const AttentionMask& mask, const AttentionOptions& options) {
  check_tree_attention(in, mask);
  return {result_like(in.q, options.rounded), wide_like(in.q, {in.q.size(0), in.q.size(1)})};
}

AttentionGradients backward_meta(const at::Tensor& grad_out, const AttentionInputs& in, const AttentionOutput& merged,
                                 const AttentionMask& mask, const AttentionOptions& options) {
  check_tree_attention(in, mask);
  check_tree_attention_backward(grad_out, in.q, merged);
  return {result_like(in.q, options.rounded), result_like(in.k, options.rounded), result_like(in.v, options.rounded)};
}

}  // namespace
}  // namespace fpdist::kernels

TORCH_LIBRARY_FRAGMENT(fpdist, m) {
  m.def(
      "tree_attention(Tensor q, Tensor k, Tensor v, Tensor q_row, Tensor k_row, Tensor k_end, float scale,"
      " bool rounded=False) -> (Tensor out, Tensor lse)");
  m.def(
      "tree_attention_backward(Tensor grad_out, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, Tensor q_row,"
      " Tensor k_row, Tensor k_end, float scale, bool rounded=False) -> (Tensor dq, Tensor dk, Tensor dv)");
}

TORCH_LIBRARY_IMPL(fpdist, Meta, m) {
  m.impl("tree_attention", fpdist::kernels::flat_forward<fpdist::kernels::forward_meta>);
  m.impl("tree_attention_backward", fpdist::kernels::flat_backward<fpdist::kernels::backward_meta>);
}
