// part_sum on the GPU: an own kernel for float32 and bfloat16 and up to kMostParts parts, ATen's operations for others.
#include <ATen/ATen.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "kernels/cuda/tensors.hpp"
#include "kernels/part_sum/cuda/part_sum_kernel.hpp"
#include "kernels/part_sum/part_sum.hpp"
#include "kernels/part_sum/part_sum_composed.hpp"

namespace fpdist::kernels {
namespace {

void sum_parts_cuda(at::TensorList parts, const at::Tensor& out) {
  check_part_sum(parts, out);
  const c10::cuda::CUDAGuard guard(out.device());
  if (!has_kernel(out.scalar_type()) || parts.size() > kMostParts) return composed_sum_parts(parts, out);
  PartSumArguments arguments{
      .part = {}, .out = out.mutable_data_ptr(), .parts = static_cast<int>(parts.size()), .count = out.numel()};
  for (size_t part = 0; part < parts.size(); ++part) arguments.part[part] = parts[part].const_data_ptr();
  C10_CUDA_CHECK(launch_part_sum(arguments, element_of(out), c10::cuda::getCurrentCUDAStream()));
}

}  // namespace
}  // namespace fpdist::kernels

TORCH_LIBRARY_IMPL(fpdist, CUDA, m) { m.impl("sum_parts", fpdist::kernels::sum_parts_cuda); }
