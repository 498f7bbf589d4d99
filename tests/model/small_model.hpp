#pragma once
// Tests: small models, packs for them, and their gradients.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "fpdist/checkpoint/hf_directory.hpp"
#include "fpdist/core/rng.hpp"
#include "fpdist/model/transformer.hpp"
#include "fpdist/parallel/stage.hpp"
#include "fpdist/prefix/tree_layout.hpp"

namespace fpdist::test {

/// Tiny tensors: more threads would only wait for each other (50 times slower when ctest runs several programs at
/// once).
inline const bool kOneThread = (at::set_num_threads(1), true);

/// A model small enough to differentiate hundreds of times, with everything a family has.
inline arch::Model small_config(const std::string& family, bool tied = false) {
  arch::Model config = arch::model_of_shape(
      family, {.layers = 2, .hidden = 16, .intermediate = 20, .heads = 4, .kv_heads = 2, .head_dim = 6, .vocab = 23});
  config.initializer_range = 0.3;  // large enough that attention is far from uniform
  config.tie_word_embeddings = tied;
  if (family == "llama")
    for (arch::Layer& layer : config.layers) layer.attention.qkv_bias = layer.attention.o_bias = layer.mlp.bias = true;
  return config;
}

/// Seeded weights with norms and biases off their trivial values.
inline void randomize(model::Transformer& model, uint64_t seed) {
  model.initialize(seed);
  const at::NoGradGuard no_grad;
  uint64_t stream = 0;
  for (const auto& parameter : model.parameters()) {
    if (parameter->value.dim() != 1) continue;
    Rng rng(seed, ++stream);
    std::vector<double> shift(static_cast<size_t>(parameter->value.numel()));
    for (double& element : shift) element = 0.3 * rng.normal();
    parameter->value.add_(at::tensor(shift, at::kDouble).to(parameter->value.scalar_type()));
  }
}

inline data::Sample sample_of(std::vector<int32_t> token) {
  data::Sample sample;
  sample.target = token;
  sample.token = std::move(token);
  return sample;
}

/// All samples in one pack; every position is a target.
inline prefix::TreeLayout layout_of(const std::vector<data::Sample>& samples, bool share) {
  std::vector<prefix::PackMember> members;
  for (size_t i = 0; i < samples.size(); ++i) members.push_back({0, static_cast<int32_t>(i), &samples[i]});
  return prefix::make_layout(members, share);
}

/// Main grads and what plain torch left in value.grad(), by name; both are cleared.
inline std::map<std::string, at::Tensor> take_gradients(model::Transformer& model) {
  std::map<std::string, at::Tensor> gradients;
  const at::NoGradGuard no_grad;
  for (const auto& parameter : model.parameters()) {
    at::Tensor sum = parameter->main_grad.clone();
    if (parameter->value.grad().defined()) sum.add_(parameter->value.grad());
    parameter->value.mutable_grad().reset();
    parameter->main_grad.zero_();
    gradients[parameter->name] = sum;
  }
  return gradients;
}

/// Every parameter from a directory, as the trainer does.
inline void load(model::Transformer& model, const checkpoint::HfDirectory& directory) {
  for (const auto& parameter : model.parameters()) directory.read_into(parameter->name, parameter->value);
}

inline model::Transformer make_model(const arch::Model& config, at::ScalarType dtype, Head head = Head::kLanguageModel,
                                     bool trainable = true, bool checkpointing = false) {
  return model::Transformer(
      config, {.dtype = dtype, .head = head, .trainable = trainable, .gradient_checkpointing = checkpointing});
}

}  // namespace fpdist::test
