#pragma once
// swiglu on the GPU: one pass over memory each way, 6 and 10 bytes an element in bfloat16. Part of libfpdist_cuda.

#include <driver_types.h>

#include <cstdint>

#include "kernels/cuda/element.hpp"

namespace fpdist::kernels {

/// gate and up [rows,width], rows at their strides (elements), elements in a row side by side; out dense.
struct SwigluArguments {
  const void *gate, *up;
  void* out;
  int64_t rows, width, gate_stride, up_stride;
};

/// The same and grad_out [rows,width] at its stride; d_gate and d_up dense.
struct SwigluBackwardArguments {
  const void *grad_out, *gate, *up;
  void *d_gate, *d_up;
  int64_t rows, width, grad_out_stride, gate_stride, up_stride;
};

/// Queue the kernel on `stream`; the answer is cudaGetLastError's. Inputs must not overlap outputs.
cudaError_t launch_swiglu(const SwigluArguments& arguments, Element element, cudaStream_t stream);
cudaError_t launch_swiglu_backward(const SwigluBackwardArguments& arguments, Element element, cudaStream_t stream);

}  // namespace fpdist::kernels
