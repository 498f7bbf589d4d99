#pragma once
// rotary out of ATen's operations, on any device: what the GPU runs until it has a kernel of its own. Arguments are
// checked already; results as rotary's.

#include <ATen/core/Tensor.h>

namespace fpdist::kernels {

at::Tensor composed_rotary(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool inverse);

}  // namespace fpdist::kernels
