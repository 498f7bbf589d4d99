// Models without a config.json.

#include <nlohmann/json.hpp>

#include "fpdist/arch/model.hpp"
#include "fpdist/core/error.hpp"

namespace fpdist::arch {

Model model_of_shape(std::string_view family, const ModelShape& shape) {
  const nlohmann::json json = {{"model_type", family},
                               {"vocab_size", shape.vocab},
                               {"hidden_size", shape.hidden},
                               {"intermediate_size", shape.intermediate},
                               {"num_hidden_layers", shape.layers},
                               {"num_attention_heads", shape.heads},
                               {"num_key_value_heads", shape.kv_heads},
                               {"head_dim", shape.head_dim}};
  Model model = parse_model_config(json.dump(), text("a model of family ", family));
  model.json.clear();  // it came without a file
  return model;
}

Model preset_config(std::string_view name) {
  check<ConfigError>(name == "tiny", "model.preset: \"", name, "\" is unknown; choose tiny");
  // Vocabulary: 256 bytes, end of sequence, padding; rounded up to a multiple of 64.
  Model model = model_of_shape(
      "llama",
      {.layers = 4, .hidden = 128, .intermediate = 384, .heads = 4, .kv_heads = 2, .head_dim = 32, .vocab = 320});
  model.max_position_embeddings = 131072;  // a toy: nothing was trained at any position
  model.norm_eps = 1e-5;
  for (Layer& layer : model.layers) layer.norm_eps = model.norm_eps;
  return model;
}

}  // namespace fpdist::arch
