#include "fpdist/arch/model.hpp"

#include <algorithm>

#include "fpdist/core/error.hpp"

namespace fpdist::arch {
namespace {

bool divides_heads(const ModelShape& shape, int64_t tp) {
  return shape.heads % tp == 0 && (shape.kv_heads % tp == 0 || tp % shape.kv_heads == 0);
}

}  // namespace

ModelShape Model::shape() const {
  const Layer& layer = layers.front();
  return {.layers = layer_count(),
          .hidden = hidden_size,
          .intermediate = layer.mlp.intermediate,
          .heads = layer.attention.heads,
          .kv_heads = layer.attention.kv_heads,
          .head_dim = layer.attention.head_dim,
          .vocab = vocab_size};
}

int64_t Model::positions() const {
  double factor = 1;
  for (const Layer& layer : layers)
    if (layer.attention.rope.type == RopeConfig::Type::kLinear) factor = std::max(factor, layer.attention.rope.factor);
  return static_cast<int64_t>(static_cast<double>(max_position_embeddings) * factor) - adapter.prefix.tokens;
}

void check_tensor_parallel(const Model& model, int tp) {
  check<ConfigError>(tp >= 1, "parallel.tp: ", tp, " ranks cannot hold a model: use 1 or more");
  const ModelShape shape = model.shape();
  if (divides_heads(shape, tp)) return;
  int64_t below = std::min<int64_t>(tp, shape.heads), above = tp;
  while (!divides_heads(shape, below)) --below;
  while (above <= shape.heads && !divides_heads(shape, above)) ++above;
  throw ConfigError(text("parallel.tp: ", tp, " does not fit a model of ", shape.heads, " attention heads and ",
                         shape.kv_heads, " key/value heads: use ", below,
                         above <= shape.heads ? text(" or ", above) : std::string()));
}

int key_value_replicas(const Model& model, int tp) {
  const int64_t heads = model.shape().kv_heads;
  return tp > heads ? static_cast<int>(tp / heads) : 1;
}

}  // namespace fpdist::arch
