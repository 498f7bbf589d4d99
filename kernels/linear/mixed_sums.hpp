#pragma once
// linear: sums over a bfloat16 matrix in float32, without a float32 copy of it.

#include <ATen/core/Tensor.h>

namespace fpdist::kernels {

/// [C] in the accumulation dtype: the sum of the rows of x [R,C], in an order that threads do not change.
at::Tensor column_sum(const at::Tensor& x);

/// [R] in the accumulation dtype: the products of the rows of x [R,C] with `vector` [C], which is in that dtype.
at::Tensor row_products(const at::Tensor& x, const at::Tensor& vector);

}  // namespace fpdist::kernels
