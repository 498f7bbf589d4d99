#pragma once
// Tests: ATen operators whose Meta version torch registers from Python only. Include in one file of a test program.

#include <ATen/ATen.h>
#include <ATen/ExpandUtils.h>
#include <torch/library.h>

#include <optional>
#include <tuple>
#include <vector>

namespace fpdist::test {

inline at::Tensor index_select_meta(const at::Tensor& x, int64_t dim, const at::Tensor& index) {
  TORCH_CHECK(index.device() == x.device(), "index_select: the index is on ", index.device(), ", x on ", x.device());
  auto sizes = x.sizes().vec();
  if (!sizes.empty()) sizes[static_cast<size_t>(at::maybe_wrap_dim(dim, x.dim()))] = index.numel();
  return at::empty(sizes, x.options());
}

inline at::Tensor& index_put_meta(at::Tensor& self, const c10::List<std::optional<at::Tensor>>&, const at::Tensor&,
                                  bool, bool) {
  return self;
}

inline at::Tensor where_meta(const at::Tensor& condition, const at::Tensor& a, const at::Tensor& b) {
  return at::empty(at::add(at::add(a, b), condition).sizes(), a.options());
}

/// Its composition asks for abs, which has none either.
inline at::Tensor logsumexp_meta(const at::Tensor& x, at::IntArrayRef dims, bool keepdim) {
  return at::sum(x, dims, keepdim);
}

inline at::Tensor extreme_meta(const at::Tensor& x) { return at::empty({}, x.options()); }

inline std::tuple<at::Tensor, at::Tensor> log_sigmoid_meta(const at::Tensor& x) {
  return {at::empty_like(x), at::empty_like(x)};
}
inline at::Tensor log_sigmoid_backward_meta(const at::Tensor& grad, const at::Tensor&, const at::Tensor&) {
  return at::empty_like(grad);
}

inline void fused_adamw_meta(at::TensorList, at::TensorList, at::TensorList, at::TensorList, at::TensorList,
                             at::TensorList, double, double, double, double, double, bool, bool,
                             const std::optional<at::Tensor>&, const std::optional<at::Tensor>&) {}

inline at::Tensor& masked_fill_meta(at::Tensor& self, const at::Tensor&, const at::Scalar&) { return self; }

/// Any operator whose last argument, `out`, has the broadcast shape of the tensors before it.
inline void pointwise_out_meta(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const size_t count = op.schema().arguments().size();
  std::vector<int64_t> shape;
  for (size_t i = stack->size() - count; i + 1 < stack->size(); ++i)
    if ((*stack)[i].isTensor()) shape = at::infer_size((*stack)[i].toTensor().sizes(), shape);
  at::Tensor out = stack->back().toTensor();
  out.resize_(shape);
  torch::jit::drop(*stack, count);
  torch::jit::push(*stack, out);
}

}  // namespace fpdist::test

TORCH_LIBRARY_IMPL(aten, Meta, m) {
  m.impl("index_select", fpdist::test::index_select_meta);
  m.impl("where.self", fpdist::test::where_meta);
  m.impl("logsumexp", fpdist::test::logsumexp_meta);
  m.impl("_index_put_impl_", fpdist::test::index_put_meta);
  m.impl("_fused_adamw_", fpdist::test::fused_adamw_meta);
  m.impl("log_sigmoid_forward", fpdist::test::log_sigmoid_meta);
  m.impl("log_sigmoid_backward", fpdist::test::log_sigmoid_backward_meta);
  m.impl("masked_fill_.Scalar", fpdist::test::masked_fill_meta);
  m.impl("min", fpdist::test::extreme_meta);
  m.impl("max", fpdist::test::extreme_meta);
  for (const char* name : {"abs.out", "logical_not.out", "logical_and.out", "logical_or.out"})
    m.impl(name, torch::CppFunction::makeFromBoxedFunction<&fpdist::test::pointwise_out_meta>());
}
