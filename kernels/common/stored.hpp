#pragma once
// kernels: a tensor's elements as loops take them, bfloat16 by its bits (vector_math.hpp).

#include <ATen/core/Tensor.h>

#include "kernels/common/vector_math.hpp"

namespace fpdist::kernels {

/// S = Stored<the tensor's element>.
template <typename S>
const S* data(const at::Tensor& x) {
  return static_cast<const S*>(x.const_data_ptr());
}
template <typename S>
S* mutable_data(const at::Tensor& x) {
  return static_cast<S*>(x.mutable_data_ptr());
}

}  // namespace fpdist::kernels
