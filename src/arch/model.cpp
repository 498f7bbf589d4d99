#include "fpdist/arch/model.hpp"

#include <algorithm>

#include "fpdist/core/error.hpp"

namespace fpdist::arch {
namespace {

bool divides_heads(const Model& config, int64_t tp) {
  const int64_t kv = config.num_key_value_heads;
  return config.num_attention_heads % tp == 0 && (kv % tp == 0 || tp % kv == 0);
}

}  // namespace

ModelShape Model::shape() const {
  return {.layers = num_hidden_layers,
          .hidden = hidden_size,
          .intermediate = intermediate_size,
          .heads = num_attention_heads,
          .kv_heads = num_key_value_heads,
          .head_dim = head_dim,
          .vocab = vocab_size};
}

void check_tensor_parallel(const Model& config, int tp) {
  check<ConfigError>(tp >= 1, "parallel.tp: ", tp, " ranks cannot hold a model: use 1 or more");
  if (divides_heads(config, tp)) return;
  int64_t below = std::min<int64_t>(tp, config.num_attention_heads), above = tp;
  while (!divides_heads(config, below)) --below;
  while (above <= config.num_attention_heads && !divides_heads(config, above)) ++above;
  throw ConfigError(text("parallel.tp: ", tp, " does not fit a model of ", config.num_attention_heads,
                         " attention heads and ", config.num_key_value_heads, " key/value heads: use ", below,
                         above <= config.num_attention_heads ? text(" or ", above) : std::string()));
}

int key_value_replicas(const Model& config, int tp) {
  return tp > config.num_key_value_heads ? static_cast<int>(tp / config.num_key_value_heads) : 1;
}

}  // namespace fpdist::arch
