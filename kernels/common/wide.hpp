#pragma once
// kernels: tensors of the accumulation dtype.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include "kernels/common/checks.hpp"

namespace fpdist::kernels {

/// `x` in the accumulation dtype of its own.
inline at::Tensor wide(const at::Tensor& x) { return x.to(accumulate_dtype_of(x.scalar_type())); }

/// An uninitialised tensor in `like`'s accumulation dtype, on its device.
inline at::Tensor wide_like(const at::Tensor& like, at::IntArrayRef sizes) {
  return at::empty(sizes, like.options().dtype(accumulate_dtype_of(like.scalar_type())));
}

}  // namespace fpdist::kernels
