// config.json to Model. What the project cannot compute exactly is refused by name, never passed over.

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "fpdist/arch/model.hpp"
#include "fpdist/core/error.hpp"

namespace fpdist::arch {
namespace {

using Json = nlohmann::json;
constexpr int kMaxDepth = 32;  // a printer that recurses must not meet a million brackets

/// Field access with errors that name file and field.
class Fields {
 public:
  Fields(const Json& object, std::string where) : object_(object), where_(std::move(where)) {}

  /// The field, or null when it is absent or null.
  const Json* find(const char* name) const {
    const auto field = object_.find(name);
    return field == object_.end() || field->is_null() ? nullptr : &*field;
  }
  bool given(const char* name) const { return object_.contains(name); }

  int64_t size(const char* name, std::optional<int64_t> fallback = std::nullopt) const {
    const Json* field = find(name);
    if (field == nullptr && fallback) return *fallback;
    require(field != nullptr, name, "is missing");
    const bool sensible =
        field->is_number_unsigned() && field->get<uint64_t>() >= 1 && field->get<uint64_t>() <= (1 << 30);
    require(sensible, name, text("must be a whole number from 1 to 2^30, not ", field->dump()));
    return field->get<int64_t>();
  }
  double positive(const char* name, std::optional<double> fallback = std::nullopt) const {
    const Json* field = find(name);
    if (field == nullptr && fallback) return *fallback;
    require(field != nullptr, name, "is missing");
    require(field->is_number() && std::isfinite(field->get<double>()) && field->get<double>() > 0, name,
            text("must be a positive number, not ", field->dump()));
    return field->get<double>();
  }
  bool flag(const char* name) const {
    const Json* field = find(name);
    require(field == nullptr || field->is_boolean(), name, "must be true or false");
    return field != nullptr && field->get<bool>();
  }
  std::string word(const char* name, const char* fallback) const {
    const Json* field = find(name);
    require(field == nullptr || field->is_string(), name, "must be a string");
    return field == nullptr ? fallback : field->get<std::string>();
  }
  void require(bool condition, const char* name, const std::string& complaint) const {
    check<ModelFileError>(condition, where_, ": \"", name, "\" ", complaint);
  }
  const std::string& where() const { return where_; }

 private:
  const Json& object_;
  std::string where_;
};

Json parse_object(std::string_view json, const std::string& where) {
  const auto watch = [&](int depth, Json::parse_event_t, Json&) {
    check<ModelFileError>(depth <= kMaxDepth, where, ": JSON nested deeper than ", kMaxDepth, " levels");
    return true;
  };
  Json root;
  try {
    root = Json::parse(json.begin(), json.end(), watch);
  } catch (const Json::exception& error) {
    throw ModelFileError(text(where, ": not valid JSON: ", error.what()));
  }
  check<ModelFileError>(root.is_object(), where, ": not a JSON object");
  return root;
}

Family parse_family(const Fields& fields) {
  const std::string type = fields.word("model_type", "");
  if (type == "llama") return Family::kLlama;
  if (type == "qwen2") return Family::kQwen2;
  if (type == "qwen3") return Family::kQwen3;
  throw ModelFileError(
      text(fields.where(), ": \"model_type\" \"", type, "\" is not supported; choose llama | qwen2 | qwen3"));
}

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
      fields.require(type == "full_attention", "layer_types",
                     text("holds ", type.dump(), "; only full_attention is supported"));
  }
  fields.require(fields.find("quantization_config") == nullptr, "quantization_config",
                 "is set: quantised weights cannot be trained, use the unquantised model");
  fields.require(fields.positive("partial_rotary_factor", 1.0) == 1.0, "partial_rotary_factor",
                 "other than 1 is not supported");
  const Json* dropout = fields.find("attention_dropout");
  fields.require(dropout == nullptr || *dropout == 0.0, "attention_dropout", "is not supported; set it to 0");
}

void check_heads(const Model& config, const Fields& fields) {
  fields.require(
      config.num_attention_heads % config.num_key_value_heads == 0, "num_key_value_heads",
      text("= ", config.num_key_value_heads, " does not divide num_attention_heads = ", config.num_attention_heads));
  fields.require(config.head_dim % 2 == 0, "head_dim", text("= ", config.head_dim, " is odd: rotary turns pairs"));
}

}  // namespace

Model parse_model_config(std::string_view json, const std::string& where) {
  const Json root = parse_object(json, where);
  const Fields fields(root, where);
  Model config;
  config.json = json;
  config.family = parse_family(fields);
  refuse_unsupported(fields);
  const bool llama = config.family == Family::kLlama;
  config.vocab_size = fields.size("vocab_size");
  config.hidden_size = fields.size("hidden_size");
  config.intermediate_size = fields.size("intermediate_size");
  config.num_hidden_layers = fields.size("num_hidden_layers");
  config.num_attention_heads = fields.size("num_attention_heads");
  // Absent and null differ in Transformers: an absent field takes the family's default.
  const bool grouped = llama || fields.given("num_key_value_heads");
  config.num_key_value_heads = fields.size("num_key_value_heads", grouped ? config.num_attention_heads : 32);
  if (config.family == Family::kQwen3 && !fields.given("head_dim")) {
    config.head_dim = 128;
  } else {
    const bool divides = fields.find("head_dim") != nullptr || config.hidden_size % config.num_attention_heads == 0;
    fields.require(divides, "hidden_size", "is not a multiple of num_attention_heads, and there is no head_dim");
    config.head_dim = fields.size("head_dim", std::max<int64_t>(1, config.hidden_size / config.num_attention_heads));
  }
  config.max_position_embeddings = fields.size("max_position_embeddings", llama ? 2048 : 32768);
  config.rms_norm_eps = fields.positive("rms_norm_eps", 1e-6);
  config.initializer_range = fields.positive("initializer_range", 0.02);
  config.attention_bias = config.family != Family::kQwen2 && fields.flag("attention_bias");
  config.mlp_bias = llama && fields.flag("mlp_bias");
  config.tie_word_embeddings = fields.flag("tie_word_embeddings");
  config.rope = parse_rope(fields, config.max_position_embeddings);
  check_heads(config, fields);
  return config;
}

}  // namespace fpdist::arch
