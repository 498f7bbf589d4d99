#pragma once
// part_sum out of ATen's operations: on the CPU, and on a GPU for what the kernel does not take.

#include <ATen/core/Tensor.h>

namespace fpdist::kernels {

/// As sum_parts.
void composed_sum_parts(at::TensorList parts, const at::Tensor& out);

}  // namespace fpdist::kernels
