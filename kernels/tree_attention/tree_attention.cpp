#include "kernels/tree_attention/tree_attention.hpp"

#include <torch/library.h>

#include "kernels/common/checks.hpp"
#include "kernels/common/dispatch.hpp"
#include "kernels/common/wide.hpp"

namespace fpdist::kernels {
namespace {

constexpr const char* kName = "tree_attention";

void check_rows(const char* name, const at::Tensor& rows, int64_t size) {
  check(rows.defined() && rows.scalar_type() == at::kInt && rows.dim() == 1 && rows.size(0) == size, kName, ": ", name,
        " must be int32 of shape [", size, "], one number per row of its tensor");
  check(rows.device().is_cpu(), kName, ": ", name, " is on ", rows.device(),
        ": row numbers stay on the CPU whatever the device of q, the host plans the call from them");
}

}  // namespace

void check_attention_tensors(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
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

void check_tree_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& q_row,
                          const at::Tensor& k_row, const at::Tensor& k_end) {
  check_attention_tensors(q, k, v);
  check_rows("q_row", q_row, q.size(0));
  check_rows("k_row", k_row, k.size(0));
  check_rows("k_end", k_end, k.size(0));
}

void check_tree_attention_backward(const at::Tensor& grad_out, const at::Tensor& q, const at::Tensor& out,
                                   const at::Tensor& lse) {
  constexpr const char* kBackward = "tree_attention_backward";
  const auto dtype = accumulate_dtype_of(q.scalar_type());
  check_sizes(kBackward, "grad_out", grad_out, q.sizes());
  check_sizes(kBackward, "out", out, q.sizes());
  check_sizes(kBackward, "lse", lse, {q.size(0), q.size(1)});
  check_dtype(kBackward, "out", out, dtype);
  check_dtype(kBackward, "lse", lse, dtype);
  for (const auto& [name, tensor] : {std::pair{"grad_out", &grad_out}, {"out", &out}, {"lse", &lse}})
    check_device(kBackward, name, *tensor, q);
}

std::tuple<at::Tensor, at::Tensor> tree_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                  const at::Tensor& q_row, const at::Tensor& k_row,
                                                  const at::Tensor& k_end, double scale) {
  static const auto op = find_operator<decltype(tree_attention)>("fpdist::tree_attention");
  return op.call(q, k, v, q_row, k_row, k_end, scale);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> tree_attention_backward(const at::Tensor& grad_out, const at::Tensor& q,
                                                                       const at::Tensor& k, const at::Tensor& v,
                                                                       const at::Tensor& out, const at::Tensor& lse,
                                                                       const at::Tensor& q_row, const at::Tensor& k_row,
                                                                       const at::Tensor& k_end, double scale) {
  static const auto op = find_operator<decltype(tree_attention_backward)>("fpdist::tree_attention_backward");
  return op.call(grad_out, q, k, v, out, lse, q_row, k_row, k_end, scale);
}

namespace {

std::tuple<at::Tensor, at::Tensor> tree_attention_meta(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                       const at::Tensor& q_row, const at::Tensor& k_row,
                                                       const at::Tensor& k_end, double) {
  check_tree_attention(q, k, v, q_row, k_row, k_end);
  return {wide_like(q, q.sizes()), wide_like(q, {q.size(0), q.size(1)})};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> tree_attention_backward_meta(
    const at::Tensor& grad_out, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& out,
    const at::Tensor& lse, const at::Tensor& q_row, const at::Tensor& k_row, const at::Tensor& k_end, double) {
  check_tree_attention(q, k, v, q_row, k_row, k_end);
  check_tree_attention_backward(grad_out, q, out, lse);
  return {wide_like(q, q.sizes()), wide_like(q, k.sizes()), wide_like(q, v.sizes())};
}

}  // namespace
}  // namespace fpdist::kernels

TORCH_LIBRARY_FRAGMENT(fpdist, m) {
  m.def(
      "tree_attention(Tensor q, Tensor k, Tensor v, Tensor q_row, Tensor k_row, Tensor k_end, float scale)"
      " -> (Tensor out, Tensor lse)");
  m.def(
      "tree_attention_backward(Tensor grad_out, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, Tensor q_row,"
      " Tensor k_row, Tensor k_end, float scale) -> (Tensor dq, Tensor dk, Tensor dv)");
}

TORCH_LIBRARY_IMPL(fpdist, Meta, m) {
  m.impl("tree_attention", fpdist::kernels::tree_attention_meta);
  m.impl("tree_attention_backward", fpdist::kernels::tree_attention_backward_meta);
}
