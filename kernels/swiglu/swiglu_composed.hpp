#pragma once
// swiglu out of ATen's operations, on any device: what the GPU runs until it has kernels of its own. Arguments are
// checked already; results as swiglu's.

#include <ATen/core/Tensor.h>

#include <tuple>

namespace fpdist::kernels {

at::Tensor composed_swiglu(const at::Tensor& gate, const at::Tensor& up);
std::tuple<at::Tensor, at::Tensor> composed_swiglu_backward(const at::Tensor& grad_out, const at::Tensor& gate,
                                                            const at::Tensor& up);

}  // namespace fpdist::kernels
