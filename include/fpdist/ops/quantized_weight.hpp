#pragma once
// ops: frozen weights that lie in 4 bits an element. Whoever multiplies with one makes it anew and lets it go: it is
// never whole for longer than a product, and no graph keeps it.

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "fpdist/kernels/nf4.hpp"

namespace fpdist::ops {

using kernels::Nf4;
struct Parameter;

struct QuantizedWeight {
  Nf4 matrix;
  at::ScalarType dtype = at::kFloat;  ///< that it is computed with
  at::Device device = at::kCPU;

  at::Tensor value() const;
};

/// [16] the values of nf4's codes.
at::Tensor nf4_table();

/// A matrix of floats on the CPU in 4 bits, its scales in 8 where `nested`; codes and scales are bitsandbytes' own (of
/// nested scales some are the nearest where bitsandbytes takes the second nearest).
Nf4 quantize(const at::Tensor& matrix, bool nested);

/// Indices [begin, begin + size) of `dim`, 0 or 1, of a whole matrix, in the same blocks; its scales are not nested.
/// Throws ShapeError where that would cut through a block.
Nf4 cut(const Nf4& whole, int dim, int64_t begin, int64_t size);

/// The parameter's slice of a whole matrix on the CPU becomes its weight, on its device. Throws ShapeError unless the
/// parameter is quantized and of that shape.
void store(Parameter& parameter, const Nf4& whole);

}  // namespace fpdist::ops
