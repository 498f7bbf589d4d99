#include "src/arch/prefix_json.hpp"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "fpdist/core/error.hpp"
#include "src/arch/adapter_json.hpp"

namespace fpdist::arch {
namespace {

using Json = nlohmann::ordered_json;

/// A peft_type that is read here; PEFT knows no prefixes by source or context.
struct PrefixType {
  const char *peft, *ours;
  std::string_view by = "none";  ///< AdapterOptions::prefix_by
};
constexpr std::array kTypes{PrefixType{"PREFIX_TUNING", "prefix_tuning"},
                            PrefixType{"CARTRIDGE", "cartridge"},
                            PrefixType{"PROMPT_TUNING", "prompt_tuning"},
                            PrefixType{"PREFIX_TUNING_BY_SOURCE", "prefix_tuning", "source"},
                            PrefixType{"PROMPT_TUNING_BY_SOURCE", "prompt_tuning", "source"},
                            PrefixType{"PREFIX_TUNING_BY_CONTEXT", "prefix_tuning", "context"},
                            PrefixType{"PROMPT_TUNING_BY_CONTEXT", "prompt_tuning", "context"}};

/// Null: none of ours.
const PrefixType* type_of(const Json& object) {
  const Json name = object.value("peft_type", Json());
  const auto* found = std::find_if(kTypes.begin(), kTypes.end(), [&](const auto& type) { return name == type.peft; });
  return found == kTypes.end() ? nullptr : found;
}

const char* peft_type(const Prefix& prefix) {
  const char* ours = prefix.is_cartridge                            ? "cartridge"
                     : prefix.trains == Prefix::Trains::kEmbeddings ? "prompt_tuning"
                                                                    : "prefix_tuning";
  const std::string_view by = prefix.context_dim > 0 ? "context" : prefix.values.empty() ? "none" : "source";
  return std::find_if(kTypes.begin(), kTypes.end(),
                      [&](const auto& type) { return std::string_view(ours) == type.ours && type.by == by; })
      ->peft;
}

/// What a file of several prefixes says of them.
void read_choice(const Json& object, AdapterOptions& options) {
  for (const Json& value : object.value("prefix_values", Json::array()))
    if (value.is_string()) options.prefix_values.push_back(value.get<std::string>());
  if (const Json& one = object.value("prefix_default", Json()); one.is_string())
    options.prefix_default = one.get<std::string>();
  if (const Json& part = object.value("prefix_drop", Json()); part.is_number())
    options.prefix_drop = part.get<double>();
}

}  // namespace

bool is_prefix_config(const std::string& json) { return type_of(Json::parse(json)) != nullptr; }

AdapterOptions parse_prefix_config(const std::string& json, const std::string& where) {
  const Json object = Json::parse(json);
  const auto require = [&](bool good, const char* field, const char* cure) {
    check<ModelFileError>(good, where, ": \"", field, "\" is ", object.value(field, Json()).dump(), ": ", cure);
  };
  const Json tokens = object.value("num_virtual_tokens", Json());
  require(tokens.is_number_integer() && tokens.get<int64_t>() > 0, "num_virtual_tokens", "it must be 1 or more");
  require(object.value("num_transformer_submodules", Json(1)) == 1, "num_transformer_submodules",
          "prefixes of decoders alone are read here");
  require(object.value("prefix_projection", Json(false)) != true, "prefix_projection",
          "PEFT does not keep the weights of its MLP; false trains the keys and values that it has made");
  const PrefixType& type = *type_of(object);
  AdapterOptions options;
  options.type = type.ours;
  options.num_virtual_tokens = tokens.get<int64_t>();
  options.prefix_by = type.by;
  if (type.by != "none") read_choice(object, options);
  if (type.by == "context")
    for (const auto& [field, to] : {std::pair("context_dim", &options.context_dim),
                                    std::pair("encoder_hidden_size", &options.encoder_hidden_size)}) {
      const Json size = object.value(field, Json());
      require(size.is_number_integer() && size.get<int64_t>() > 0, field, "it must be 1 or more");
      *to = size.get<int64_t>();
    }
  if (options.type == "cartridge") {
    const Json frozen = object.value("num_frozen_tokens", Json(1));
    require(frozen.is_number_integer() && frozen >= 0 && frozen <= tokens, "num_frozen_tokens",
            "it must be 0 or more, and no more than num_virtual_tokens");
    options.num_frozen_tokens = frozen.get<int64_t>();
  }
  if (object.value("init_weights", Json()) == "zero") options.init_weights = "zero";
  return options;
}

std::string prefix_config_json(const Model& model, Head head, const AdapterOptions& options, const std::string& json) {
  const Attention& attention = model.layers.front().attention;
  const Prefix& prefix = model.adapter.prefix;
  const bool of_keys = prefix.trains == Prefix::Trains::kKeys;
  const int64_t width = of_keys ? attention.kv_heads * attention.head_dim : model.hidden_size;
  Json object = json.empty() ? Json::object() : Json::parse(json);
  object["peft_type"] = peft_type(prefix);
  object["num_virtual_tokens"] = prefix.tokens;
  object["num_layers"] = model.layer_count();
  object["num_attention_heads"] = of_keys ? attention.kv_heads : attention.heads;
  object["token_dim"] = width;
  object["num_transformer_submodules"] = 1;
  if (!prefix.values.empty()) {
    object["prefix_values"] = prefix.values;
    object["prefix_default"] = options.prefix_default.empty() ? Json() : Json(options.prefix_default);
    object["prefix_drop"] = prefix.drop;
  }
  if (prefix.context_dim > 0) object["context_dim"] = prefix.context_dim, object["prefix_drop"] = prefix.drop;
  if (prefix.is_cartridge) {
    object["num_frozen_tokens"] = prefix.frozen;
  } else if (of_keys) {
    object["prefix_projection"] = options.prefix_projection;
    object["encoder_hidden_size"] = options.prefix_projection ? prefix.hidden : width;
    object["init_weights"] = options.init_weights == "zero" ? Json("zero") : Json();
  } else {
    object["prompt_tuning_init"] = "RANDOM";  // TEXT would ask PEFT for a tokenizer that it has no use for
  }
  if (prefix.context_dim > 0) object["encoder_hidden_size"] = prefix.hidden;
  object["modules_to_save"] = head == Head::kLanguageModel ? Json() : Json{"classifier", "score"};
  return object.dump(2) + "\n";
}

std::string one_prefix_json(const std::string& json) {
  Json object = Json::parse(json);
  const std::string ours = type_of(object)->ours;
  object["peft_type"] =
      std::find_if(kTypes.begin(), kTypes.end(), [&](const auto& type) { return ours == type.ours; })->peft;
  for (const char* field : {"prefix_values", "prefix_default", "prefix_drop"}) object.erase(field);
  if (object.erase("context_dim") > 0) object.erase("encoder_hidden_size");
  return object.dump(2) + "\n";
}

}  // namespace fpdist::arch
