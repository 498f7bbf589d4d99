#pragma once
// kernels/cuda: from tensors to a kernel's arguments.

#include <ATen/core/Tensor.h>

#include "kernels/cuda/element.hpp"

namespace fpdist::kernels {

/// Whether our kernels are built for the dtype; float64 takes ATen's way.
inline bool has_kernel(at::ScalarType dtype) { return dtype == at::kFloat || dtype == at::kBFloat16; }

inline Element element_of(const at::Tensor& x) {
  return x.scalar_type() == at::kBFloat16 ? Element::kBFloat16 : Element::kFloat32;
}

/// x with the elements of its last dim side by side: itself, whatever its other strides, or a copy.
inline at::Tensor with_dense_rows(const at::Tensor& x) {
  return x.stride(-1) == 1 || x.size(-1) == 1 ? x : x.contiguous();
}

}  // namespace fpdist::kernels
