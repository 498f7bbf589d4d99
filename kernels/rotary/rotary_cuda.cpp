// rotary on the GPU: own kernel for float32 and bfloat16, ATen's operations for float64.
#include <ATen/ATen.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "kernels/cuda/tensors.hpp"
#include "kernels/rotary/cuda/rotary_kernel.hpp"
#include "kernels/rotary/rotary.hpp"
#include "kernels/rotary/rotary_composed.hpp"

namespace fpdist::kernels {
namespace {

at::Tensor rotary_cuda(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool inverse) {
  check_rotary(x, cos, sin);
  if (!has_kernel(x.scalar_type())) return composed_rotary(x, cos, sin, inverse);
  const c10::cuda::CUDAGuard guard(x.device());
  const at::Tensor in = with_dense_rows(x), c = cos.contiguous(), s = sin.contiguous();
  at::Tensor out = at::empty(x.sizes(), x.options());
  const RotaryArguments arguments{.x = in.const_data_ptr(),
                                  .cos = c.const_data_ptr<float>(),
                                  .sin = s.const_data_ptr<float>(),
                                  .out = out.mutable_data_ptr(),
                                  .rows = in.size(0),
                                  .row_stride = in.stride(0),
                                  .head_stride = in.stride(1),
                                  .heads = static_cast<int>(in.size(1)),
                                  .half = static_cast<int>(in.size(2) / 2),
                                  .is_inverse = inverse};
  C10_CUDA_CHECK(launch_rotary(arguments, element_of(x), c10::cuda::getCurrentCUDAStream()));
  return out;
}

}  // namespace
}  // namespace fpdist::kernels

TORCH_LIBRARY_IMPL(fpdist, CUDA, m) { m.impl("rotary", fpdist::kernels::rotary_cuda); }
