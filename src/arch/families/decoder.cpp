#include "src/arch/families/decoder.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "fpdist/core/error.hpp"

namespace fpdist::arch {
namespace {

using Json = nlohmann::json;
constexpr int64_t kMostLayers = 1 << 16;  // a file of a few bytes must not ask for gigabytes of layers

/// New spelling: rope_parameters with everything inside. Old: rope_theta beside rope_scaling, which wins when both are
/// there.
RopeConfig parse_rope(const Fields& fields, int64_t max_position_embeddings) {
  RopeConfig rope;
  rope.theta = fields.positive("rope_theta", 10000.0);
  const char* name = fields.find("rope_scaling") != nullptr ? "rope_scaling" : "rope_parameters";
  const Json* scaling = fields.find(name);
  if (scaling == nullptr) return rope;
  fields.require(scaling->is_object(), name, "must be an object");
  const Fields inner(*scaling, text(fields.where(), ": ", name));
  for (const auto& [key, value] : scaling->items())
    inner.require(!value.is_object(), key.c_str(), "is an object: rotary parameters per layer type are not supported");
  rope.theta = inner.positive("rope_theta", rope.theta);
  inner.require(inner.positive("partial_rotary_factor", 1.0) == 1.0, "partial_rotary_factor",
                "other than 1 is not supported");
  const std::string type = inner.word("rope_type", inner.word("type", "default").c_str());
  if (type == "default") return rope;
  const bool known = type == "linear" || type == "llama3";
  inner.require(known, "rope_type", text("\"", type, "\" is not supported; choose default | linear | llama3"));
  rope.factor = inner.positive("factor");
  rope.type = RopeConfig::Type::kLinear;
  if (type == "linear") return rope;
  rope.type = RopeConfig::Type::kLlama3;
  rope.low_freq_factor = inner.positive("low_freq_factor");
  rope.high_freq_factor = inner.positive("high_freq_factor");
  inner.require(rope.high_freq_factor > rope.low_freq_factor, "high_freq_factor", "must exceed low_freq_factor");
  rope.original_max_position_embeddings = inner.size("original_max_position_embeddings", max_position_embeddings);
  return rope;
}

void refuse_unsupported(const Fields& fields) {
  const std::string activation = fields.word("hidden_act", "silu");
  fields.require(activation == "silu" || activation == "swish", "hidden_act",
                 text("\"", activation, "\" is not supported; only silu"));
  fields.require(!fields.flag("use_sliding_window"), "use_sliding_window",
                 "true is not supported: sliding windows would change the attention");
  if (const Json* types = fields.find("layer_types")) {
    for (const auto& type : *types)
      fields.require(type.is_string() && type.get<std::string>() == "full_attention", "layer_types",
                     text("holds ", type.dump(), "; only full_attention is supported"));
  }
  fields.require(fields.positive("partial_rotary_factor", 1.0) == 1.0, "partial_rotary_factor",
                 "other than 1 is not supported");
  const Json* dropout = fields.find("attention_dropout");
  fields.require(dropout == nullptr || *dropout == 0.0, "attention_dropout", "is not supported; set it to 0");
}

void check_heads(const Attention& attention, const Fields& fields) {
  fields.require(attention.heads % attention.kv_heads == 0, "num_key_value_heads",
                 text("= ", attention.kv_heads, " does not divide num_attention_heads = ", attention.heads));
  fields.require(attention.head_dim % 2 == 0, "head_dim",
                 text("= ", attention.head_dim, " is odd: rotary turns pairs"));
}

int64_t read_head_dim(const Fields& fields, const Absent& absent, int64_t hidden, int64_t heads) {
  if (absent.head_dim && !fields.given("head_dim")) return *absent.head_dim;
  const bool divides = fields.find("head_dim") != nullptr || hidden % heads == 0;
  fields.require(divides, "hidden_size", "is not a multiple of num_attention_heads, and there is no head_dim");
  return fields.size("head_dim", std::max<int64_t>(1, hidden / heads));
}

}  // namespace

Decoder read_sizes(const Fields& fields, const Absent& absent) {
  refuse_unsupported(fields);
  Decoder decoder;
  auto& [model, layer] = decoder;
  model.vocab_size = fields.size("vocab_size");
  model.hidden_size = fields.size("hidden_size");
  layer.mlp.intermediate = fields.size("intermediate_size");
  const int64_t layers = fields.size("num_hidden_layers");
  fields.require(layers <= kMostLayers, "num_hidden_layers",
                 text("= ", layers, " is more than the ", kMostLayers, " that are supported"));
  model.layers.resize(static_cast<size_t>(layers));
  Attention& attention = layer.attention;
  attention.heads = fields.size("num_attention_heads");
  // Absent and null differ in Transformers: an absent field takes the family's default.
  const bool is_familys = absent.kv_heads && !fields.given("num_key_value_heads");
  attention.kv_heads = fields.size("num_key_value_heads", is_familys ? *absent.kv_heads : attention.heads);
  attention.head_dim = read_head_dim(fields, absent, model.hidden_size, attention.heads);
  model.max_position_embeddings = fields.size("max_position_embeddings", absent.max_position_embeddings);
  model.norm_eps = layer.norm_eps = fields.positive("rms_norm_eps", 1e-6);
  model.initializer_range = fields.positive("initializer_range", 0.02);
  return decoder;
}

Model finish(Decoder decoder, const Fields& fields) {
  auto& [model, layer] = decoder;
  model.tie_word_embeddings = fields.flag("tie_word_embeddings");
  layer.attention.rope = parse_rope(fields, model.max_position_embeddings);
  check_heads(layer.attention, fields);
  model.layers.assign(model.layers.size(), layer);
  return std::move(model);
}

}  // namespace fpdist::arch
