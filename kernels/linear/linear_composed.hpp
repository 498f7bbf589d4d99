#pragma once
// linear out of ATen's operations, on any device: the sum that no one call makes. Arguments are checked already.

#include <ATen/core/Tensor.h>

#include <optional>

namespace fpdist::kernels {

/// x W^T + residual (+ bias): every term in the accumulation dtype, one rounding at the end.
at::Tensor composed_linear(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                           const at::Tensor& residual);

}  // namespace fpdist::kernels
