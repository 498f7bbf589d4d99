#include "src/arch/prefix_json.hpp"

#include <nlohmann/json.hpp>

#include "fpdist/core/error.hpp"

namespace fpdist::arch {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char *kOfKeys = "PREFIX_TUNING", *kOfEmbeddings = "PROMPT_TUNING";

}  // namespace

bool is_prefix_config(const std::string& json) {
  const Json type = Json::parse(json).value("peft_type", Json());
  return type == kOfKeys || type == kOfEmbeddings;
}

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
  AdapterOptions options;
  options.type = object.value("peft_type", Json()) == kOfKeys ? "prefix_tuning" : "prompt_tuning";
  options.num_virtual_tokens = tokens.get<int64_t>();
  if (object.value("init_weights", Json()) == "zero") options.init_weights = "zero";
  return options;
}

std::string prefix_config_json(const Model& model, Head head, const AdapterOptions& options, const std::string& json) {
  const Attention& attention = model.layers.front().attention;
  const bool of_keys = model.adapter.prefix.trains == Prefix::Trains::kKeys;
  const int64_t width = of_keys ? attention.kv_heads * attention.head_dim : model.hidden_size;
  Json object = json.empty() ? Json::object() : Json::parse(json);
  object["peft_type"] = of_keys ? kOfKeys : kOfEmbeddings;
  object["num_virtual_tokens"] = model.adapter.prefix.tokens;
  object["num_layers"] = model.layer_count();
  object["num_attention_heads"] = of_keys ? attention.kv_heads : attention.heads;
  object["token_dim"] = width;
  object["num_transformer_submodules"] = 1;
  if (of_keys) {
    object["prefix_projection"] = options.prefix_projection;
    object["encoder_hidden_size"] = options.prefix_projection ? model.adapter.prefix.hidden : width;
    object["init_weights"] = options.init_weights == "zero" ? Json("zero") : Json();
  } else {
    object["prompt_tuning_init"] = "RANDOM";  // TEXT would ask PEFT for a tokenizer that it has no use for
  }
  object["modules_to_save"] = head == Head::kScore ? Json{"classifier", "score"} : Json();
  return object.dump(2) + "\n";
}

}  // namespace fpdist::arch
