#pragma once
// Rotary angles from depths (never from row numbers), computed as Transformers computes them.

#include <ATen/core/Tensor.h>

#include "fpdist/arch/model.hpp"

namespace fpdist::model {

struct RotaryTable {
  at::Tensor cos, sin;  ///< [T, D/2] in the accumulation dtype
};

/// [D/2] rotations per position, in float32 (whatever the model's dtype, or positions past 1,000 are half a radian off
/// in bfloat16) or float64 for a float64 model.
at::Tensor inverse_frequencies(const arch::RopeConfig& rope, int64_t head_dim, at::ScalarType dtype, at::Device device);

/// One table a pack, shared by all layers. depth [T] int64.
RotaryTable rotary_table(const at::Tensor& inverse_frequency, const at::Tensor& depth);

}  // namespace fpdist::model
