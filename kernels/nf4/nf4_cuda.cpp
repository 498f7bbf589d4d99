// dequantize_nf4 on the GPU: an own kernel for float32 and bfloat16, ATen's operations for float64.
#include <ATen/ATen.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "kernels/cuda/tensors.hpp"
#include "kernels/nf4/cuda/nf4_kernel.hpp"
#include "kernels/nf4/nf4.hpp"
#include "kernels/nf4/nf4_composed.hpp"

namespace fpdist::kernels {
namespace {

Element stored_element(at::ScalarType stored) {
  if (stored == at::kHalf) return Element::kFloat16;
  return stored == at::kBFloat16 ? Element::kBFloat16 : Element::kFloat32;
}

at::Tensor dequantize_nf4_cuda(const at::Tensor& code, const at::Tensor& absmax,
                               const std::optional<at::Tensor>& nested_absmax,
                               const std::optional<at::Tensor>& nested_map, double nested_offset, at::IntArrayRef sizes,
                               int64_t block, int64_t nested_block, at::ScalarType stored, at::ScalarType dtype) {
  const Nf4Arguments in{code,  absmax, nested_absmax, nested_map, nested_offset,
                        sizes, block,  nested_block,  stored,     dtype};
  check_nf4(in);
  // A lane reads 4 bytes of codes at once.
  const bool is_aligned = reinterpret_cast<uintptr_t>(code.const_data_ptr()) % 4 == 0;
  if (!has_kernel(dtype) || !is_aligned) return composed_dequantize_nf4(in);
  const c10::cuda::CUDAGuard guard(code.device());
  at::Tensor out = at::empty(sizes, code.options().dtype(dtype));
  const Nf4KernelArguments arguments{.code = code.const_data_ptr<uint8_t>(),
                                     .absmax = absmax.const_data_ptr(),
                                     .nested_absmax = in.is_nested() ? nested_absmax->const_data_ptr<float>() : nullptr,
                                     .nested_map = in.is_nested() ? nested_map->const_data_ptr<float>() : nullptr,
                                     .out = out.mutable_data_ptr(),
                                     .elements = in.elements(),
                                     .nested_offset = static_cast<float>(nested_offset),
                                     .block = static_cast<uint32_t>(block),
                                     .nested_block = static_cast<uint32_t>(nested_block)};
  C10_CUDA_CHECK(
      launch_dequantize_nf4(arguments, stored_element(stored), element_of(out), c10::cuda::getCurrentCUDAStream()));
  return out;
}

}  // namespace
}  // namespace fpdist::kernels

TORCH_LIBRARY_IMPL(fpdist, CUDA, m) { m.impl("dequantize_nf4", fpdist::kernels::dequantize_nf4_cuda); }
