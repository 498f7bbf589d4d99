#include "weights.hpp"

#include <ATen/ATen.h>

#include <cmath>
#include <numbers>
#include <string>
#include <string_view>

#include "fpdist/core/rng.hpp"

namespace fpdist::model {
namespace {

class Allocator {
 public:
  Allocator(at::TensorOptions options, bool trainable, std::vector<ops::ParameterPtr>& all)
      : options_(options), trainable_(trainable), all_(all) {}

  ops::ParameterPtr make(const std::string& name, at::IntArrayRef shape) {
    auto parameter = std::make_shared<ops::Parameter>();
    parameter->name = name;
    parameter->value = at::empty(shape, options_).set_requires_grad(trainable_);
    if (trainable_)
      parameter->main_grad = at::zeros(shape, options_.dtype(ops::accumulate_dtype(parameter->value.scalar_type())));
    all_.push_back(parameter);
    return parameter;
  }
  Linear linear(const std::string& name, int64_t out, int64_t in, bool bias) {
    Linear linear{.weight = make(name + ".weight", {out, in}), .bias = nullptr};
    if (bias) linear.bias = make(name + ".bias", {out});
    return linear;
  }

 private:
  at::TensorOptions options_;
  bool trainable_;
  std::vector<ops::ParameterPtr>& all_;
};

BlockWeights allocate_block(const ModelConfig& config, int64_t layer, Allocator& allocator) {
  const std::string prefix = "model.layers." + std::to_string(layer) + ".", attention = prefix + "self_attn.";
  const int64_t hidden = config.hidden_size, inner = config.intermediate_size;
  const int64_t q_size = config.num_attention_heads * config.head_dim,
                kv_size = config.num_key_value_heads * config.head_dim;
  BlockWeights block;
  block.q = allocator.linear(attention + "q_proj", q_size, hidden, config.qkv_bias());
  block.k = allocator.linear(attention + "k_proj", kv_size, hidden, config.qkv_bias());
  block.v = allocator.linear(attention + "v_proj", kv_size, hidden, config.qkv_bias());
  block.o = allocator.linear(attention + "o_proj", hidden, q_size, config.attention_bias);
  if (config.qk_norm()) {
    block.q_norm = allocator.make(attention + "q_norm.weight", {config.head_dim});
    block.k_norm = allocator.make(attention + "k_norm.weight", {config.head_dim});
  }
  block.gate = allocator.linear(prefix + "mlp.gate_proj", inner, hidden, config.mlp_bias);
  block.up = allocator.linear(prefix + "mlp.up_proj", inner, hidden, config.mlp_bias);
  block.down = allocator.linear(prefix + "mlp.down_proj", hidden, inner, config.mlp_bias);
  block.input_norm = allocator.make(prefix + "input_layernorm.weight", {hidden});
  block.post_attention_norm = allocator.make(prefix + "post_attention_layernorm.weight", {hidden});
  return block;
}

/// FNV-1a: names to streams of random numbers, the same on every machine.
uint64_t hash(std::string_view name) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const unsigned char byte : name) hash = (hash ^ byte) * 0x100000001b3;
  return hash;
}

/// Standard normals for elements 2*pair and 2*pair + 1 (Box-Muller).
std::pair<double, double> normal_pair(uint64_t seed, uint64_t stream, uint64_t pair) {
  const auto block = philox(seed, pair, stream);
  const auto uniform = [&](int word) {
    return static_cast<double>(((uint64_t{block[word + 1]} << 32) | block[word]) >> 11) * 0x1.0p-53;
  };
  const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform(0))), angle = 2.0 * std::numbers::pi * uniform(2);
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

}  // namespace

Weights Weights::allocate(const ModelConfig& config, at::TensorOptions options, Head head, bool trainable) {
  Weights weights;
  Allocator allocator(options, trainable, weights.all);
  weights.embedding = allocator.make("model.embed_tokens.weight", {config.vocab_size, config.hidden_size});
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer)
    weights.block.push_back(allocate_block(config, layer, allocator));
  weights.norm = allocator.make("model.norm.weight", {config.hidden_size});
  if (head == Head::kScore) {
    weights.head = allocator.make(kScoreWeight, {1, config.hidden_size});
  } else {
    weights.head = config.tie_word_embeddings
                       ? weights.embedding
                       : allocator.make("lm_head.weight", {config.vocab_size, config.hidden_size});
  }
  return weights;
}

void initialize(ops::Parameter& parameter, double std, uint64_t seed) {
  const at::NoGradGuard no_grad;
  if (parameter.value.dim() < 2) {
    parameter.value.fill_(parameter.name.ends_with(".bias") ? 0.0 : 1.0);
    return;
  }
  at::Tensor drawn = at::empty(parameter.value.sizes(), at::TensorOptions(at::kDouble));
  auto* out = drawn.mutable_data_ptr<double>();
  const uint64_t stream = hash(parameter.name);
  for (int64_t i = 0; i < drawn.numel(); i += 2) {
    const auto [even, odd] = normal_pair(seed, stream, static_cast<uint64_t>(i / 2));
    out[i] = std * even;
    if (i + 1 < drawn.numel()) out[i + 1] = std * odd;
  }
  parameter.value.copy_(drawn);
}

}  // namespace fpdist::model
