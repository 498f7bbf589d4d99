#pragma once
// rms_norm on the GPU: a row is read once, stays in the registers of its lanes, and is written once. The weight's
// gradient is summed in two stages of fixed order: partial sums by kernel one, their sum by kernel two. Part of
// libfpdist_cuda.

#include <driver_types.h>

#include <cstdint>

#include "kernels/cuda/element.hpp"

namespace fpdist::kernels {

/// How the lanes of a block share rows: a function of the shape and the dtype alone, never of the device, so that sums
/// are the same everywhere.
struct RmsNormShape {
  Element element = Element::kFloat32;
  bool is_vectorised = false;  ///< 16 bytes an access; the width and all strides are multiples of that
  int lanes = 0;               ///< that share a row: 8, 16 or whole warps
  int accesses = 0;            ///< of each of them to a row of backward, at most
  int rows_in_block = 0;       ///< so many rows at once; lanes x rows_in_block threads
  int64_t blocks = 0;          ///< of backward: each has every blocks-th group of rows, and one partial sum
};

/// x [rows,width] at x_stride (elements), weight [width]; y dense.
struct RmsNormArguments {
  const void *x, *weight;
  void* y;
  int64_t rows, x_stride;
  uint32_t width;
  float eps;
};

/// The same and grad_out [rows,width] at its stride; dx dense, dw [width] float32, partial [blocks,width] float32:
/// scratch.
struct RmsNormBackwardArguments {
  const void *grad_out, *x, *weight;
  void* dx;
  float *partial, *dw;
  int64_t rows, grad_out_stride, x_stride;
  uint32_t width;
  float eps;
};

/// `lanes` is 0 where a row does not fit a block's registers (more than 16,384 bfloat16, 8,192 float32 or 2,048 that
/// are not vectors): nothing to launch. `is_aligned`: vectors may start at every row of every tensor.
RmsNormShape shape_of_rms_norm(int64_t rows, int64_t width, Element element, bool is_aligned);

/// Queue the kernels on `stream`; the answer is cudaGetLastError's. Inputs must not overlap outputs.
cudaError_t launch_rms_norm(const RmsNormArguments& arguments, const RmsNormShape& shape, cudaStream_t stream);
cudaError_t launch_rms_norm_backward(const RmsNormBackwardArguments& arguments, const RmsNormShape& shape,
                                     cudaStream_t stream);

}  // namespace fpdist::kernels
