// Model to config.json.

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "fpdist/arch/model.hpp"
#include "src/arch/config_json.hpp"
#include "src/arch/families/family.hpp"

namespace fpdist::arch {
namespace {

using Json = nlohmann::ordered_json;  // fields keep the order of the file

std::string architecture(const Model& model, Head head) {
  return std::string(family_of(model).classes) + (head == Head::kScore        ? "ForSequenceClassification"
                                                  : head == Head::kTokenClass ? "ForTokenClassification"
                                                                              : "ForCausalLM");
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
Json from_scratch(const Model& model) {
  const Layer& layer = model.layers.front();
  return {{"architectures", Json::array()},
          {"model_type", model.family},
          {"vocab_size", model.vocab_size},
          {"hidden_size", model.hidden_size},
          {"intermediate_size", layer.mlp.intermediate},
          {"num_hidden_layers", model.layer_count()},
          {"num_attention_heads", layer.attention.heads},
          {"num_key_value_heads", layer.attention.kv_heads},
          {"head_dim", layer.attention.head_dim},
          {"hidden_act", "silu"},
          {"max_position_embeddings", model.max_position_embeddings},
          {"rms_norm_eps", model.norm_eps},
          {"initializer_range", model.initializer_range},
          {"attention_bias", layer.attention.o_bias},
          {"mlp_bias", layer.mlp.bias},
          {"attention_dropout", 0.0},
          {"tie_word_embeddings", model.tie_word_embeddings},
          {"rope_theta", layer.attention.rope.theta},
          {"rope_scaling", rope_scaling(layer.attention.rope)},
          {"bos_token_id", nullptr},
          {"eos_token_id", 256},  // the byte tokenizer's end of sequence
          {"pad_token_id", 257},  // never in the data, so that a reward model is read at its last real token
          {"use_cache", true},
          {"torch_dtype", nullptr}};
}

Json whole_config(const Model& model) { return model.json.empty() ? from_scratch(model) : Json::parse(model.json); }

}  // namespace

std::optional<int64_t> pad_token_id(const Model& model) {
  const Json json = whole_config(model);
  const auto found = json.find("pad_token_id");
  if (found == json.end() || !found->is_number_integer()) return std::nullopt;
  const auto id = found->get<int64_t>();
  return id >= 0 && id < model.vocab_size ? std::optional(id) : std::nullopt;
}

std::string export_config_json(const Model& model, const ExportConfig& as) {
  Json json = whole_config(model);
  json["architectures"] = Json::array({architecture(model, as.head)});
  const auto ties = json.find("tie_word_embeddings");
  if ((ties != json.end() && *ties == true) != model.tie_word_embeddings)
    json["tie_word_embeddings"] = model.tie_word_embeddings;
  if (as.pad_token_id) json["pad_token_id"] = *as.pad_token_id;
  if (as.head == Head::kScore) {
    json["num_labels"] = 1;
    json["id2label"] = {{"0", "LABEL_0"}};
    json["label2id"] = {{"LABEL_0", 0}};
  }
  if (as.head == Head::kTokenClass) {
    json["num_labels"] = 2;
    json["id2label"] = {{"0", "LABEL_0"}, {"1", "LABEL_1"}};
    json["label2id"] = {{"LABEL_0", 0}, {"LABEL_1", 1}};
  }
  return with_dtype(json.dump(), as.dtype, "config.json");
}

}  // namespace fpdist::arch
