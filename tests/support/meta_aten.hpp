#pragma once
// Tests: ATen operators whose Meta version torch registers from Python only. Include in one file of a test program.

#include <ATen/ATen.h>
#include <torch/library.h>

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

}  // namespace fpdist::test

TORCH_LIBRARY_IMPL(aten, Meta, m) {
  m.impl("index_select", fpdist::test::index_select_meta);
  m.impl("where.self", fpdist::test::where_meta);
  m.impl("logsumexp", fpdist::test::logsumexp_meta);
  m.impl("_index_put_impl_", fpdist::test::index_put_meta);
}
