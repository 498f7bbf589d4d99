// rms_norm on the GPU: own kernels for float32 and bfloat16; ATen's operations for float64 and for rows that do not fit
// a block's registers (shape_of_rms_norm).
#include <ATen/ATen.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "kernels/cuda/tensors.hpp"
#include "kernels/rms_norm/cuda/rms_norm_kernel.hpp"
#include "kernels/rms_norm/rms_norm.hpp"
#include "kernels/rms_norm/rms_norm_composed.hpp"

namespace fpdist::kernels {
namespace {

bool is_aligned(const at::Tensor& x) {
  const int64_t stride = x.dim() == 1 || x.size(0) == 1 ? 0 : x.stride(0);
  return fits_vectors(x.const_data_ptr(), stride, element_of(x));
}

at::Tensor rms_norm_cuda(const at::Tensor& x, const at::Tensor& weight, double eps, const std::optional<at::Tensor>&) {
  check_rms_norm(x, weight);
  if (!has_kernel(x.scalar_type())) return composed_rms_norm(x, weight, eps);
  const c10::cuda::CUDAGuard guard(x.device());
  const at::Tensor in = with_dense_rows(x), w = weight.contiguous();
  const RmsNormShape shape = shape_of_rms_norm(in.size(0), in.size(1), element_of(x), is_aligned(in) && is_aligned(w));
  if (shape.lanes == 0) return composed_rms_norm(x, weight, eps);
  at::Tensor y = at::empty(x.sizes(), x.options());
  const RmsNormArguments arguments{.x = in.const_data_ptr(),
                                   .weight = w.const_data_ptr(),
                                   .y = y.mutable_data_ptr(),
                                   .rows = in.size(0),
                                   .x_stride = in.stride(0),
                                   .width = static_cast<uint32_t>(in.size(1)),
                                   .eps = static_cast<float>(eps)};
  C10_CUDA_CHECK(launch_rms_norm(arguments, shape, c10::cuda::getCurrentCUDAStream()));
  return y;
}

std::tuple<at::Tensor, at::Tensor> rms_norm_backward_cuda(const at::Tensor& grad_out, const at::Tensor& x,
                                                          const at::Tensor& weight, double eps) {
  check_rms_norm_backward(grad_out, x, weight);
  if (!has_kernel(x.scalar_type())) return composed_rms_norm_backward(grad_out, x, weight, eps);
  const c10::cuda::CUDAGuard guard(x.device());
  const at::Tensor in = with_dense_rows(x), w = weight.contiguous(), dy = with_dense_rows(grad_out);
  const RmsNormShape shape =
      shape_of_rms_norm(in.size(0), in.size(1), element_of(x), is_aligned(in) && is_aligned(w) && is_aligned(dy));
  if (shape.lanes == 0) return composed_rms_norm_backward(grad_out, x, weight, eps);
  const at::TensorOptions sums = x.options().dtype(at::kFloat);
  at::Tensor dx = at::empty(x.sizes(), x.options()), dw = at::empty({in.size(1)}, sums);
  at::Tensor partial = at::empty({shape.blocks, in.size(1)}, sums);
  const RmsNormBackwardArguments arguments{.grad_out = dy.const_data_ptr(),
                                           .x = in.const_data_ptr(),
                                           .weight = w.const_data_ptr(),
                                           .dx = dx.mutable_data_ptr(),
                                           .partial = partial.mutable_data_ptr<float>(),
                                           .dw = dw.mutable_data_ptr<float>(),
                                           .rows = in.size(0),
                                           .grad_out_stride = dy.stride(0),
                                           .x_stride = in.stride(0),
                                           .width = static_cast<uint32_t>(in.size(1)),
                                           .eps = static_cast<float>(eps)};
  C10_CUDA_CHECK(launch_rms_norm_backward(arguments, shape, c10::cuda::getCurrentCUDAStream()));
  return {dx, dw};
}

}  // namespace
}  // namespace fpdist::kernels

TORCH_LIBRARY_IMPL(fpdist, CUDA, m) {
  m.impl("rms_norm", fpdist::kernels::rms_norm_cuda);
  m.impl("rms_norm_backward", fpdist::kernels::rms_norm_backward_cuda);
}
