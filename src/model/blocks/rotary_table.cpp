#include "src/model/blocks/rotary_table.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <numbers>

#include "src/core/index.hpp"

namespace fpdist::model {

at::Tensor inverse_frequencies(const arch::RopeConfig& rope, int64_t head_dim, at::ScalarType dtype,
                               at::Device device) {
  const at::Tensor exponent = at::arange(0, head_dim, 2, at::TensorOptions(dtype)) / static_cast<double>(head_dim);
  at::Tensor frequency = at::reciprocal(at::pow(rope.theta, exponent));
  if (rope.type == arch::RopeConfig::Type::kLinear) frequency = frequency / rope.factor;
  if (rope.type == arch::RopeConfig::Type::kLlama3) {
    // Long waves are stretched by `factor`, short ones kept, those between are blended ("by parts", Llama 3.1).
    const auto context = static_cast<double>(rope.original_max_position_embeddings);
    const double longest = context / rope.low_freq_factor, shortest = context / rope.high_freq_factor;
    const at::Tensor wave = 2 * std::numbers::pi * at::reciprocal(frequency);
    const at::Tensor stretched = at::where(wave > longest, frequency / rope.factor, frequency);
    const at::Tensor smooth =
        (context * at::reciprocal(wave) - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
    const at::Tensor blended = (1 - smooth) * stretched / rope.factor + smooth * stretched;
    frequency = at::where(at::logical_and(wave >= shortest, wave <= longest), blended, stretched);
  }
  return frequency.to(device);
}

RotaryTable rotary_table(const at::Tensor& inverse_frequency, const at::Tensor& depth) {
  const at::Tensor angle = depth.to(inverse_frequency.scalar_type()).unsqueeze(1) * inverse_frequency.unsqueeze(0);
  return {.cos = angle.cos(), .sin = angle.sin()};
}

LayerRotary::LayerRotary(std::span<const arch::Layer> layers, at::ScalarType dtype, at::Device device) {
  std::vector<const arch::Attention*> seen;
  for (const arch::Layer& layer : layers) {
    const arch::Attention& attention = layer.attention;
    const auto same = std::find_if(seen.begin(), seen.end(), [&](const arch::Attention* one) {
      return one->rope == attention.rope && one->head_dim == attention.head_dim;
    });
    of_layer_.push_back(index(same - seen.begin()));
    if (same != seen.end()) continue;
    seen.push_back(&attention);
    frequencies_.push_back(inverse_frequencies(attention.rope, attention.head_dim, dtype, device));
  }
}

std::vector<RotaryTable> LayerRotary::tables(const at::Tensor& depth) const {
  std::vector<RotaryTable> distinct, of_layer;
  for (const at::Tensor& frequency : frequencies_) distinct.push_back(rotary_table(frequency, depth));
  for (const size_t which : of_layer_) of_layer.push_back(distinct[which]);
  return of_layer;
}

}  // namespace fpdist::model
