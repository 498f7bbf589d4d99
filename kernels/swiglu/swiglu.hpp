#pragma once
// swiglu: silu(gate) * up (Shazeer 2020), both [T,F] of one dtype; the sigmoid and the product are formed in the
// accumulation dtype and rounded once. Backward recomputes the sigmoid: nothing but gate and up is kept.

#include <ATen/core/Tensor.h>

#include <tuple>

namespace fpdist::kernels {

at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up);

/// (d_gate, d_up) in gate's dtype.
std::tuple<at::Tensor, at::Tensor> swiglu_backward(const at::Tensor& grad_out, const at::Tensor& gate,
                                                   const at::Tensor& up);

/// Throw ShapeError unless the arguments fit together; the same on every device, reading no element.
void check_swiglu(const at::Tensor& gate, const at::Tensor& up);
void check_swiglu_backward(const at::Tensor& grad_out, const at::Tensor& gate, const at::Tensor& up);

}  // namespace fpdist::kernels
