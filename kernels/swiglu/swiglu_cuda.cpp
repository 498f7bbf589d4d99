// swiglu on the GPU: own kernels for float32 and bfloat16, ATen's operations for float64.
#include <ATen/ATen.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "kernels/cuda/tensors.hpp"
#include "kernels/swiglu/cuda/swiglu_kernel.hpp"
#include "kernels/swiglu/swiglu.hpp"
#include "kernels/swiglu/swiglu_composed.hpp"

namespace fpdist::kernels {
namespace {

at::Tensor swiglu_cuda(const at::Tensor& gate, const at::Tensor& up) {
  check_swiglu(gate, up);
  if (!has_kernel(gate.scalar_type())) return composed_swiglu(gate, up);
  const c10::cuda::CUDAGuard guard(gate.device());
  const at::Tensor g = with_dense_rows(gate), u = with_dense_rows(up);
  at::Tensor out = at::empty(gate.sizes(), gate.options());
  const SwigluArguments arguments{.gate = g.const_data_ptr(),
                                  .up = u.const_data_ptr(),
                                  .out = out.mutable_data_ptr(),
                                  .rows = g.size(0),
                                  .width = g.size(1),
                                  .gate_stride = g.stride(0),
                                  .up_stride = u.stride(0)};
  C10_CUDA_CHECK(launch_swiglu(arguments, element_of(gate), c10::cuda::getCurrentCUDAStream()));
  return out;
}

std::tuple<at::Tensor, at::Tensor> swiglu_backward_cuda(const at::Tensor& grad_out, const at::Tensor& gate,
                                                        const at::Tensor& up) {
  check_swiglu_backward(grad_out, gate, up);
  if (!has_kernel(gate.scalar_type())) return composed_swiglu_backward(grad_out, gate, up);
  const c10::cuda::CUDAGuard guard(gate.device());
  const at::Tensor g = with_dense_rows(gate), u = with_dense_rows(up);
  const at::Tensor dy = with_dense_rows(grad_out.to(gate.scalar_type()));
  at::Tensor d_gate = at::empty(gate.sizes(), gate.options()), d_up = at::empty(gate.sizes(), gate.options());
  const SwigluBackwardArguments arguments{.grad_out = dy.const_data_ptr(),
                                          .gate = g.const_data_ptr(),
                                          .up = u.const_data_ptr(),
                                          .d_gate = d_gate.mutable_data_ptr(),
                                          .d_up = d_up.mutable_data_ptr(),
                                          .rows = g.size(0),
                                          .width = g.size(1),
                                          .grad_out_stride = dy.stride(0),
                                          .gate_stride = g.stride(0),
                                          .up_stride = u.stride(0)};
  C10_CUDA_CHECK(launch_swiglu_backward(arguments, element_of(gate), c10::cuda::getCurrentCUDAStream()));
  return {d_gate, d_up};
}

}  // namespace
}  // namespace fpdist::kernels

TORCH_LIBRARY_IMPL(fpdist, CUDA, m) {
  m.impl("swiglu", fpdist::kernels::swiglu_cuda);
  m.impl("swiglu_backward", fpdist::kernels::swiglu_backward_cuda);
}
