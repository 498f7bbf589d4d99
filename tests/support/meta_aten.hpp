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

}  // namespace fpdist::test

TORCH_LIBRARY_IMPL(aten, Meta, m) { m.impl("index_select", fpdist::test::index_select_meta); }
