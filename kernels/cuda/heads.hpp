#pragma once
// kernels/cuda: rows of heads as kernels that copy by 16 bytes take them.

#include <ATen/ATen.h>

#include "kernels/cuda/tensor_map.hpp"
#include "kernels/cuda/tensors.hpp"

namespace fpdist::kernels {

/// x [rows, heads, size], a head's elements side by side.
inline HeadsTensor heads_of(const at::Tensor& x) {
  // torch lets a dimension of one element have any stride.
  return {.data = x.const_data_ptr(),
          .rows = x.size(0),
          .row_stride = x.size(0) == 1 ? x.size(1) * x.size(2) : x.stride(0),
          .head_stride = x.size(1) == 1 ? x.size(2) : x.stride(1),
          .heads = static_cast<int>(x.size(1)),
          .size = static_cast<int>(x.size(2))};
}

/// Whether each head of each row is whole 16-byte chunks.
inline bool has_vectors(const at::Tensor& x) {
  const HeadsTensor heads = heads_of(x);
  return x.stride(2) == 1 && fits_vectors(heads.data, heads.row_stride, element_of(x)) &&
         heads.head_stride % elements_in_vector(element_of(x)) == 0;
}
/// x, or a copy of which they are.
inline at::Tensor with_vectors(const at::Tensor& x) { return has_vectors(x) ? x : x.contiguous().clone(); }

}  // namespace fpdist::kernels
