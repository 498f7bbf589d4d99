#include "kernels/tree_attention/tree_attention.hpp"

#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "kernels/common/checks.hpp"
#include "kernels/common/dispatch.hpp"
#include "kernels/tree_attention/schema.hpp"

namespace fpdist::kernels {
namespace {

constexpr const char* kName = "tree_attention";

// Sizes are asked for as symbols throughout: torch.compile calls the Meta versions before it knows numbers.

/// One number for each row of `of`.
void check_rows(const char* name, const at::Tensor& rows, const at::Tensor& of) {
  check(rows.defined() && rows.scalar_type() == at::kInt && rows.dim() == 1 && rows.sym_size(0) == of.sym_size(0),
        kName, ": ", name, " must be int32 of shape [", of.sym_size(0), "], one number per row of its tensor");
  // While a graph is made every tensor says that it is on Meta.
  check(rows.device().is_cpu() || of.is_meta(), kName, ": ", name, " is on ", rows.device(),
        ": row numbers stay on the CPU whatever the device of q, the host lays the call out from them");
}

/// A model's dtypes, and float16, which no model has.
void check_one(const char* name, const at::Tensor& tensor) {
  if (tensor.defined() && tensor.scalar_type() == at::kHalf)
    check(tensor.dim() == 3, kName, ": ", name, " has ", tensor.dim(), " dims, needs 3");
  else
    check_model_tensor(kName, name, tensor, 3);
}

void check_shape(const char* op, const char* name, const at::Tensor& tensor, c10::SymIntArrayRef sizes) {
  check(tensor.sym_sizes() == sizes, op, ": ", name, " has shape ", tensor.sym_sizes(), ", needs ", sizes);
}

}  // namespace

void check_attention_inputs(const AttentionInputs& in) {
  const auto& [q, k, v] = in;
  check_one("q", q);
  for (const auto& [name, tensor] : {std::pair{"k", &k}, {"v", &v}}) {
    check_one(name, *tensor);
    check_dtype(kName, name, *tensor, q.scalar_type());
    check(tensor->device() == q.device(), kName, ": ", name, " is on ", tensor->device(), ", q on ", q.device());
  }
  check(k.sym_sizes() == v.sym_sizes(), kName, ": k has shape ", k.sym_sizes(), ", v ", v.sym_sizes(),
        ": they must agree");
  check(q.sym_size(2) == k.sym_size(2), kName, ": head size of q is ", q.sym_size(2), ", of k ", k.sym_size(2));
  check(k.sym_size(1) > 0 && q.sym_size(1) % k.sym_size(1) == 0, kName, ": ", q.sym_size(1), " query heads over ",
        k.sym_size(1), " key heads: the first must be a multiple of the second");
}

void check_tree_attention(const AttentionInputs& in, const AttentionMask& mask) {
  check_attention_inputs(in);
  check_rows("q_row", mask.q_row, in.q);
  check_rows("k_row", mask.k_row, in.k);
  check_rows("k_end", mask.k_end, in.k);
}

void check_tree_attention_backward(const at::Tensor& grad_out, const at::Tensor& q, const AttentionOutput& merged) {
  const auto& [out, lse] = merged;
  constexpr const char* kBackward = "tree_attention_backward";
  const auto dtype = accumulate_dtype_of(q.scalar_type());
  check_shape(kBackward, "grad_out", grad_out, q.sym_sizes());
  check_shape(kBackward, "out", out, q.sym_sizes());
  check_shape(kBackward, "lse", lse, q.sym_sizes().slice(0, 2));
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

at::Tensor empty_wide(const at::Tensor& like, c10::SymIntArrayRef sizes) {
  return at::empty_symint(sizes, like.options().dtype(accumulate_dtype_of(like.scalar_type())));
}

at::Tensor result_like(const at::Tensor& input, bool rounded) {
  return rounded ? at::empty_symint(input.sym_sizes(), input.options()) : empty_wide(input, input.sym_sizes());
}

AttentionOutput forward_meta(const AttentionInputs& in, const AttentionMask& mask, const AttentionOptions& options) {
  check_tree_attention(in, mask);
  return {result_like(in.q, options.rounded), empty_wide(in.q, in.q.sym_sizes().slice(0, 2))};
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
