#pragma once
// kernels/cuda: from tensors to a kernel's arguments.

#include <ATen/core/Tensor.h>

#include "kernels/cuda/element.hpp"

namespace fpdist::kernels {

/// Whether our pointwise kernels are built for the dtype; float64 takes ATen's way.
inline bool has_kernel(at::ScalarType dtype) { return dtype == at::kFloat || dtype == at::kBFloat16; }

inline Element element_of(const at::Tensor& x) {
  switch (x.scalar_type()) {
    case at::kBFloat16:
      return Element::kBFloat16;
    case at::kHalf:
      return Element::kFloat16;
    default:
      return Element::kFloat32;
  }
}

/// x with the elements of its last dim side by side: itself, whatever its other strides, or a copy.
inline at::Tensor with_dense_rows(const at::Tensor& x) {
  return x.stride(-1) == 1 || x.size(-1) == 1 ? x : x.contiguous();
}

}  // namespace fpdist::kernels
