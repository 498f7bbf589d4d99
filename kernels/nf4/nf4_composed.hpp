#pragma once
// dequantize_nf4 out of ATen's operations, on any device: what a GPU runs for float64. Arguments are checked already;
// the twin's bits.

#include <ATen/core/Tensor.h>

#include "kernels/nf4/nf4.hpp"

namespace fpdist::kernels {

/// [blocks] float32.
at::Tensor nf4_scales(const Nf4Arguments& in);

at::Tensor composed_dequantize_nf4(const Nf4Arguments& in);

}  // namespace fpdist::kernels
