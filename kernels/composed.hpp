#pragma once
// kernels: the pointwise families out of ATen's operations, on any device: what the GPU runs until it has kernels of
// its own; and the linear that no one call makes. Arguments are checked already; results as the families' headers have
// them.

#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>

namespace fpdist::kernels {

/// x W^T + residual (+ bias): every term in the accumulation dtype, one rounding at the end.
at::Tensor composed_linear(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                           const at::Tensor& residual);

at::Tensor composed_rotary(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool inverse);

at::Tensor composed_swiglu(const at::Tensor& gate, const at::Tensor& up);
std::tuple<at::Tensor, at::Tensor> composed_swiglu_backward(const at::Tensor& grad_out, const at::Tensor& gate,
                                                            const at::Tensor& up);

at::Tensor composed_rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);
std::tuple<at::Tensor, at::Tensor> composed_rms_norm_backward(const at::Tensor& grad_out, const at::Tensor& x,
                                                              const at::Tensor& weight, double eps);

}  // namespace fpdist::kernels
