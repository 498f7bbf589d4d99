#pragma once
// rotary on the GPU: x is read and written once, and a row's angles once for four heads. Part of libfpdist_cuda.

#include <driver_types.h>

#include <cstdint>

#include "kernels/cuda/element.hpp"

namespace fpdist::kernels {

/// x [rows,heads,2 half] at its strides (elements), elements of a head side by side; cos and sin [rows,half] float32,
/// dense; out dense.
struct RotaryArguments {
  const void* x;
  const float *cos, *sin;
  void* out;
  int64_t rows, row_stride, head_stride;
  int heads, half;
  bool is_inverse;
};

/// Queue the kernel on `stream`; the answer is cudaGetLastError's. Inputs must not overlap the output.
cudaError_t launch_rotary(const RotaryArguments& arguments, Element element, cudaStream_t stream);

}  // namespace fpdist::kernels
