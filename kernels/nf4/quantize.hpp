#pragma once
// nf4: from a matrix on the CPU to its 4 bits.

#include <ATen/core/Tensor.h>

#include "fpdist/kernels/nf4.hpp"

namespace fpdist::kernels {

/// A matrix in float32, bfloat16, float16 or (as float32) float64, on the CPU, in blocks of 64: codes and absmax are
/// those of bitsandbytes, bit for bit. A block's scale is its largest size; an element's code the number of midpoints
/// of the table that lie under element * (1 / scale). `nested`: scales in 8 bits, each to the nearest of the map in
/// blocks of 256 (of bitsandbytes' own codes some, under one in a hundred, are the second nearest).
Nf4 quantize_nf4(const at::Tensor& matrix, bool nested);

/// With scales in float32, whose bits are what the nested ones come to.
Nf4 without_nesting(Nf4 matrix);

/// [256] the signed dynamic map of 8 bits, ascending: 7 decades of evenly spaced numbers on either side, 0 and 1.
at::Tensor dynamic_map();

}  // namespace fpdist::kernels
