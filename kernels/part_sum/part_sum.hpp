#pragma once
// part_sum: what ranks have sent of one sum, added up on the rank that keeps it. In the order of the parts, so that the
// bits do not depend on whose part came first; bfloat16 adds up in float32 and is rounded once.

#include <ATen/core/Tensor.h>

namespace fpdist::kernels {

/// out [n] <- the sum of `parts`, each [n] of out's dtype, dense, on its device; out may be one of them. Any number of
/// parts but none; any dtype.
void sum_parts(at::TensorList parts, const at::Tensor& out);

/// Throws ShapeError unless the arguments fit together; the same on every device, reading no element.
void check_part_sum(at::TensorList parts, const at::Tensor& out);

}  // namespace fpdist::kernels
