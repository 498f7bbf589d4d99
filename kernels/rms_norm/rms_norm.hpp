#pragma once
// rms_norm: root-mean-square norm (Zhang and Sennrich 2019) with the numerics of Transformers' LlamaRMSNorm:
// weight * cast(x / sqrt(mean(x^2) + eps)), the inside in the accumulation dtype A. x [T,H], weight [H] of one dtype.

#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>

namespace fpdist::kernels {

/// y [T,H] in x's dtype. As torch.ops.fpdist.rms_norm it is differentiable; a given main grad [H] in A receives the
/// weight's gradient in place of weight.grad.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps,
                    const std::optional<at::Tensor>& weight_main_grad);

/// dx in x's dtype and dw [H] in A, summed in a fixed order whatever the number of threads.
std::tuple<at::Tensor, at::Tensor> rms_norm_backward(const at::Tensor& grad_out, const at::Tensor& x,
                                                     const at::Tensor& weight, double eps);

/// Throws ShapeError unless the arguments fit together; the same on every device, reading no element.
void check_rms_norm(const at::Tensor& x, const at::Tensor& weight);
void check_rms_norm_backward(const at::Tensor& grad_out, const at::Tensor& x, const at::Tensor& weight);

}  // namespace fpdist::kernels
