#pragma once
// linear: y = x W^T + b whose weight gradient is added, in the accumulation dtype, straight into a main grad.
// T rows, I in, O out; x [T,I], weight [O,I], bias [O], residual [T,O], all of one dtype. A = float64 for float64, else
// float32.

#include <ATen/core/Tensor.h>

#include <optional>

namespace fpdist::kernels {

/// y [T,O] = x W^T (+ bias) (+ residual) in x's dtype, a tensor of its own. With a residual the whole sum is made in A
/// and rounded once, on every device; its rows may be any distance apart. As torch.ops.fpdist.linear it is
/// differentiable: where a main grad is given, backward adds dW (db) into it and returns none; where it is not, the
/// gradient is returned as usual. The residual's gradient is y's; the graph does not keep the residual.
at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                  const std::optional<at::Tensor>& weight_main_grad, const std::optional<at::Tensor>& bias_main_grad,
                  const std::optional<at::Tensor>& residual = std::nullopt);

/// y [T,O] in A = x W^T: not rounded to x's dtype, and nothing is widened where the device can multiply so. Not
/// differentiable.
at::Tensor wide_linear(const at::Tensor& x, const at::Tensor& weight);

/// dx [T,I] = grad_out [T,O] W.
at::Tensor linear_backward_input(const at::Tensor& grad_out, const at::Tensor& weight);

/// grad_weight [O,I] in A += grad_out^T x; = where it does not accumulate, whatever lies there.
void linear_backward_weight(const at::Tensor& grad_out, const at::Tensor& x, at::Tensor& grad_weight,
                            bool accumulates = true);

/// The same, and grad_bias [O] in A (+)= the sum of grad_out's rows: one pass over grad_out where the device can.
void linear_backward_weight_bias(const at::Tensor& grad_out, const at::Tensor& x, at::Tensor& grad_weight,
                                 at::Tensor& grad_bias, bool accumulates = true, bool accumulates_bias = true);

/// Throw ShapeError unless the arguments fit together; the same on every device, reading no element.
void check_linear(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                  const std::optional<at::Tensor>& residual = std::nullopt);
void check_linear_backward_input(const at::Tensor& grad_out, const at::Tensor& weight);
void check_linear_backward_weight(const at::Tensor& grad_out, const at::Tensor& x, const at::Tensor& grad_weight);

void check_linear_backward_bias(const at::Tensor& grad_out, const at::Tensor& grad_bias);

}  // namespace fpdist::kernels
