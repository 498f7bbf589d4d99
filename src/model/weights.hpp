#pragma once
// The weights of a model: Hugging Face names and shapes, and what seeded weights are.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "fpdist/model/config.hpp"
#include "fpdist/model/transformer.hpp"
#include "fpdist/ops/parameter.hpp"

namespace fpdist::model {

/// A projection; `bias` is null where the family has none.
struct Linear {
  ops::ParameterPtr weight, bias;
};

struct BlockWeights {
  Linear q, k, v, o, gate, up, down;
  ops::ParameterPtr q_norm, k_norm;  ///< [D], null without qk_norm
  ops::ParameterPtr input_norm, post_attention_norm;
};

struct Weights {
  ops::ParameterPtr embedding, norm;
  ops::ParameterPtr head;  ///< lm_head [V,H], the embedding itself when tied, or score [1,H]
  std::vector<BlockWeights> block;
  std::vector<ops::ParameterPtr> all;  ///< each once, in Hugging Face order

  /// Uninitialised; with zeroed main grads when `trainable`.
  static Weights allocate(const ModelConfig& config, at::TensorOptions options, Head head, bool trainable);
};

/// Matrices normal(0, std), norms 1, biases 0. A draw depends on (seed, name, element) alone and is made in double.
void initialize(ops::Parameter& parameter, double std, uint64_t seed);

}  // namespace fpdist::model
