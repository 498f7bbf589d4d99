#pragma once
// rotary: rotary position embedding in Llama's half-split convention (Su et al. 2021; element i pairs with i + D/2).
// x [T,heads,D], cos and sin [T,D/2] in the accumulation dtype (bfloat16 angles are half a radian off past position
// 1,000). Computed in the accumulation dtype, returned in x's. `inverse` rotates back, which is also the gradient.

#include <ATen/core/Tensor.h>

namespace fpdist::kernels {

at::Tensor rotary(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool inverse);

/// Throws ShapeError unless the arguments fit together; the same on every device, reading no element.
void check_rotary(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin);

}  // namespace fpdist::kernels
