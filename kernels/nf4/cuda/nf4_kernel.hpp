#pragma once
// dequantize_nf4 on the GPU: a lane turns 4 bytes of codes into 8 elements. Part of libfpdist_cuda.

#include <driver_types.h>

#include <cstdint>

#include "kernels/cuda/element.hpp"

namespace fpdist::kernels {

/// As fpdist/kernels/nf4.hpp has them; absmax float32, or uint8 where nested_absmax is there. code and out aligned to 4
/// and 16 bytes, block a multiple of 8; out [elements].
struct Nf4KernelArguments {
  const uint8_t* code;
  const void* absmax;
  const float *nested_absmax, *nested_map;
  void* out;
  int64_t elements;
  float nested_offset;
  uint32_t block, nested_block;
};

/// Queues the kernel on `stream`; the answer is cudaGetLastError's. `stored`: what values are rounded to; `out`:
/// float32 or bfloat16.
cudaError_t launch_dequantize_nf4(const Nf4KernelArguments& arguments, Element stored, Element out,
                                  cudaStream_t stream);

}  // namespace fpdist::kernels
