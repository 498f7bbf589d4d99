#pragma once
// kernels/cuda: what TMA has to know of a tensor, as the driver writes it. Plain C++, no torch.

#include <cuda.h>
#include <driver_types.h>

#include <cstdint>

namespace fpdist::kernels {

/// [rows, heads, size] bfloat16; strides in elements, those of a head side by side.
struct HeadsTensor {
  const void* data = nullptr;
  int64_t rows = 0, row_stride = 0, head_stride = 0;
  int heads = 0, size = 0;
};

/// What TMA asks of it: 16-byte aligned, strides that keep it so, rows whole heads apart.
bool fits_tensor_map(const HeadsTensor& tensor);

/// For boxes of one head, `box_rows` rows (at most 256) and 64 columns in the 128-byte swizzle. The driver's answer:
/// cudaErrorNotSupported where it has no such function, cudaErrorInvalidValue where it refuses the numbers.
cudaError_t make_tensor_map(const HeadsTensor& tensor, int box_rows, CUtensorMap& map);

}  // namespace fpdist::kernels
