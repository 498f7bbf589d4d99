// Model to config.json, and the built-in presets.

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "fpdist/arch/model.hpp"
#include "fpdist/core/error.hpp"

namespace fpdist::arch {
namespace {

using Json = nlohmann::ordered_json;  // fields keep the order of the file

const char* type_name(Family family) {
  switch (family) {
    case Family::kLlama:
      return "llama";
    case Family::kQwen2:
      return "qwen2";
    case Family::kQwen3:
      return "qwen3";
  }
  throw std::logic_error("enum value without a name");
}

std::string architecture(Family family, bool reward_head) {
  const std::string name = family == Family::kLlama ? "Llama" : family == Family::kQwen2 ? "Qwen2" : "Qwen3";
  return name + (reward_head ? "ForSequenceClassification" : "ForCausalLM");
}

/// Old spellings, which every Transformers since 4.31 reads.
Json rope_scaling(const RopeConfig& rope) {
  if (rope.type == RopeConfig::Type::kDefault) return nullptr;
  if (rope.type == RopeConfig::Type::kLinear) return {{"rope_type", "linear"}, {"factor", rope.factor}};
  return {{"rope_type", "llama3"},
          {"factor", rope.factor},
          {"low_freq_factor", rope.low_freq_factor},
          {"high_freq_factor", rope.high_freq_factor},
          {"original_max_position_embeddings", rope.original_max_position_embeddings}};
}

/// A whole config.json for a model that came without one.
Json from_scratch(const Model& config) {
  return {{"architectures", Json::array()},
          {"model_type", type_name(config.family)},
          {"vocab_size", config.vocab_size},
          {"hidden_size", config.hidden_size},
          {"intermediate_size", config.intermediate_size},
          {"num_hidden_layers", config.num_hidden_layers},
          {"num_attention_heads", config.num_attention_heads},
          {"num_key_value_heads", config.num_key_value_heads},
          {"head_dim", config.head_dim},
          {"hidden_act", "silu"},
          {"max_position_embeddings", config.max_position_embeddings},
          {"rms_norm_eps", config.rms_norm_eps},
          {"initializer_range", config.initializer_range},
          {"attention_bias", config.attention_bias},
          {"mlp_bias", config.mlp_bias},
          {"attention_dropout", 0.0},
          {"tie_word_embeddings", config.tie_word_embeddings},
          {"rope_theta", config.rope.theta},
          {"rope_scaling", rope_scaling(config.rope)},
          {"bos_token_id", nullptr},
          {"eos_token_id", 256},  // the byte tokenizer's end of sequence
          {"pad_token_id", 257},  // never in the data, so that a reward model is read at its last real token
          {"use_cache", true},
          {"torch_dtype", nullptr}};
}

}  // namespace

Model preset_config(std::string_view name) {
  check<ConfigError>(name == "tiny", "model.preset: \"", name, "\" is unknown; choose tiny");
  Model config;
  config.family = Family::kLlama;
  config.vocab_size = 320;  // 256 bytes, end of sequence, padding; rounded up to a multiple of 64
  config.hidden_size = 128;
  config.intermediate_size = 384;
  config.num_hidden_layers = 4;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 32;
  config.max_position_embeddings = 4096;
  config.rms_norm_eps = 1e-5;
  return config;
}

std::string export_config_json(const Model& config, std::string_view dtype, bool reward_head) {
  Json json = config.json.empty() ? from_scratch(config) : Json::parse(config.json);
  json["architectures"] = Json::array({architecture(config.family, reward_head)});
  const bool old_spelling =
      json.contains("torch_dtype") || (!json.contains("dtype") && !json.contains("rope_parameters"));
  json[old_spelling ? "torch_dtype" : "dtype"] = dtype;
  if (reward_head) {
    json["num_labels"] = 1;
    json["id2label"] = {{"0", "LABEL_0"}};
    json["label2id"] = {{"LABEL_0", 0}};
  }
  return json.dump(2) + "\n";
}

}  // namespace fpdist::arch
