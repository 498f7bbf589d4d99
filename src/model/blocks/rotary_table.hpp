#pragma once
// Rotary angles from depths (never from row numbers), computed as Transformers computes them.

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <span>
#include <vector>

#include "fpdist/arch/model.hpp"

namespace fpdist::model {

struct RotaryTable {
  at::Tensor cos, sin;  ///< [T, D/2] in the accumulation dtype
};

/// [D/2] rotations per position, in float32 (whatever the model's dtype, or positions past 1,000 are half a radian off
/// in bfloat16) or float64 for a float64 model.
at::Tensor inverse_frequencies(const arch::RopeConfig& rope, int64_t head_dim, at::ScalarType dtype, at::Device device);

/// depth [T] int64.
RotaryTable rotary_table(const at::Tensor& inverse_frequency, const at::Tensor& depth);

/// The rotary embeddings of a run of layers: layers that turn alike share a table.
class LayerRotary {
 public:
  LayerRotary(std::span<const arch::Layer> layers, at::ScalarType dtype, at::Device device);
  /// [layers] of a pack.
  std::vector<RotaryTable> tables(const at::Tensor& depth) const;

 private:
  std::vector<at::Tensor> frequencies_;  // distinct ones
  std::vector<size_t> of_layer_;         // which of them
};

}  // namespace fpdist::model
