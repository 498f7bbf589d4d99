#include "src/arch/adapter_json.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <variant>

#include "fpdist/core/error.hpp"
#include "src/arch/prefix_json.hpp"
#include "src/core/key.hpp"
#include "src/core/words.hpp"
#include "src/files/files.hpp"
#include "src/files/strict_json.hpp"

namespace fpdist::arch {
namespace {

using Json = nlohmann::ordered_json;  // fields keep the order of the file
constexpr int kDeepest = 16;
constexpr const char* kNtk = "NTK_ATTENTION";  // PEFT has none

bool is_set(const Json& json, const std::string& field) {
  const auto found = json.find(field);
  if (found == json.end() || found->is_null() || (found->is_structured() && found->empty())) return false;
  return !found->is_boolean() || found->get<bool>();
}

/// Reads fields of one file.
class AdapterFields {
 public:
  AdapterFields(const Json& json, const std::string& where) : json_(json), where_(where) {}

  template <typename T>
  void read(const char* field, T& to) const {
    if (!is_set(json_, field)) return;
    try {
      to = json_.at(field).get<T>();
    } catch (const Json::exception&) {
      throw ModelFileError(text(where_, ": \"", field, "\" is ", json_.at(field).dump(), ", which is not understood"));
    }
  }
  /// null, a string or a list of them.
  void read_names(const char* field, std::vector<std::string>& to) const {
    if (is_set(json_, field) && json_.at(field).is_string())
      to = {json_.at(field).get<std::string>()};
    else
      read(field, to);
  }
  void read_layers(std::vector<int64_t>& to) const {
    const char* field = "layers_to_transform";
    if (is_set(json_, field) && json_.at(field).is_number_integer())
      to = {json_.at(field).get<int64_t>()};
    else
      read(field, to);
  }
  void read_patterns(const char* field, std::map<std::string, std::string>& to) const {
    std::map<std::string, double> numbers;
    read(field, numbers);
    for (const auto& [pattern, number] : numbers) to[pattern] = Json(number).dump();
  }
  void require(bool good, const char* field, std::string_view cure) const {
    check<ModelFileError>(good, where_, ": \"", field, "\" is ", json_.value(field, Json()).dump(), ": ", cure);
  }

 private:
  const Json& json_;
  const std::string& where_;
};

void refuse_other_kinds(const Json& json, const AdapterFields& fields) {
  fields.require(json.value("peft_type", Json()) == "LORA", "peft_type",
                 "adapters of type LORA, PREFIX_TUNING, CARTRIDGE, PROMPT_TUNING and, of our own, NTK_ATTENTION, "
                 "PREFIX_TUNING_BY_SOURCE, PROMPT_TUNING_BY_SOURCE, PREFIX_TUNING_BY_CONTEXT and "
                 "PROMPT_TUNING_BY_CONTEXT are read here");
  fields.require(!is_set(json, "bias") || json.at("bias") == "none", "bias", "the model's biases stay frozen here");
  for (const char* field : {"fan_in_fan_out", "lora_bias", "layer_replication", "alora_invocation_tokens",
                            "target_parameters", "trainable_token_indices"})
    fields.require(!is_set(json, field), field, "adapters that compute so are not read here");
  for (const auto& [field, value] : json.items())
    if (field.ends_with("_config") || (field.starts_with("use_") && field != "use_rslora" && field != "use_dora"))
      fields.require(!is_set(json, field), field.c_str(), "adapters that compute so are not read here");
  if (is_set(json, "layers_pattern"))
    fields.require(json.at("layers_pattern") == "layers", "layers_pattern",
                   "the layers of every model here are layers");
  if (is_set(json, "modules_to_save"))
    for (const Json& one : json.at("modules_to_save"))
      fields.require(one == "score" || one == "classifier", "modules_to_save",
                     "beside an adapter the score head alone is trained here");
  const Json init = json.value("init_lora_weights", Json(true));
  fields.require(init.is_boolean() || init == "gaussian", "init_lora_weights",
                 "such a start changes the model's own weights: convert the adapter to plain LoRA in PEFT");
}

Json parse_object(const std::string& json, const std::string& where) {
  (void)files::parse_strict(json, where, kDeepest);  // what is wrong with the text
  Json object = Json::parse(json);
  check<ModelFileError>(object.is_object(), where, ": is no JSON object");
  return object;
}

/// The adapter.type whose key it is; "" where it is any's.
std::string_view type_of(std::string_view key) {
  if (key == "type" || key == "path") return "";
  if (key.starts_with("prompt_tuning")) return "prompt_tuning";
  if (key == "num_virtual_tokens") return "prefix_tuning, cartridge or prompt_tuning";
  if (key == "num_frozen_tokens") return "cartridge";
  if (key == "init_weights" || key == "init_text") return "prefix_tuning or cartridge";
  if (key == "prefix_projection") return "prefix_tuning";
  const bool is_of_mapper = key == "encoder_hidden_size" || key == "context_dim";
  return is_of_mapper || key.starts_with("prefix_") ? "prefix_tuning or prompt_tuning" : "lora";
}

bool are_same(const Field& one, const Field& other) {
  return std::visit(
      [&](const auto& value) {
        using Value = std::remove_cvref_t<decltype(value)>;
        if constexpr (std::is_pointer_v<Value>) return *value == *std::get<Value>(other);
        return false;
      },
      one);
}

/// The names of linears as a file has them.
Json targets_of(const Model& model, const AdapterOptions& options) {
  if (options.target_modules.empty()) return Json{"q_proj", "v_proj"};
  if (options.target_modules != std::vector<std::string>{"all-linear"}) {
    const std::string& first = options.target_modules.front();
    const bool is_pattern =
        first.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.") !=
        std::string::npos;
    return is_pattern ? Json(first) : Json(options.target_modules);
  }
  std::set<std::string> leaves;
  for (const LowRank& one : model.adapter.linear) leaves.insert(one.module.substr(one.module.rfind('.') + 1));
  return Json(leaves);
}

Json number_of(double value) { return value == std::floor(value) ? Json(static_cast<int64_t>(value)) : Json(value); }

Json patterns_of(const std::map<std::string, std::string>& patterns) {
  Json all = Json::object();
  for (const auto& [pattern, words] : patterns) {
    double number = 0;
    std::from_chars(words.data(), words.data() + words.size(), number);
    all[pattern] = number_of(number);
  }
  return all;
}

template <typename List>
Json or_null(const List& list) {
  return list.empty() ? Json() : Json(list);
}

}  // namespace

std::string adapter_config_path(const std::string& directory) { return directory + "/adapter_config.json"; }

std::string read_adapter_config(const std::string& directory) {
  const std::string path = adapter_config_path(directory);
  std::error_code unknown;
  check<ModelFileError>(std::filesystem::is_directory(directory, unknown), directory, ": there is no such folder",
                        looked_in(directory));
  check<ModelFileError>(std::filesystem::exists(path, unknown), directory,
                        " is no adapter: it has no adapter_config.json, which PEFT's save_pretrained and runs with ",
                        "adapter.type write");
  return files::read(path, files::kMaxJsonBytes);
}

AdapterOptions parse_adapter_config(const std::string& json, const std::string& where) {
  const Json object = parse_object(json, where);
  if (is_prefix_config(json)) return parse_prefix_config(json, where);
  if (object.value("peft_type", Json()) == kNtk) {
    AdapterOptions ntk;
    ntk.type = "ntk";
    return ntk;
  }
  const AdapterFields fields(object, where);
  refuse_other_kinds(object, fields);
  AdapterOptions options;
  options.type = "lora";
  fields.read("r", options.r);
  fields.read("lora_alpha", options.lora_alpha);
  fields.read("lora_dropout", options.lora_dropout);
  fields.read("use_rslora", options.use_rslora);
  fields.read("use_dora", options.use_dora);
  fields.read_names("target_modules", options.target_modules);
  fields.read_names("exclude_modules", options.exclude_modules);
  fields.read_layers(options.layers_to_transform);
  fields.read_patterns("rank_pattern", options.rank_pattern);
  fields.read_patterns("alpha_pattern", options.alpha_pattern);
  fields.require(options.r >= 1, "r", "it must be 1 or more");
  fields.require(options.lora_alpha > 0, "lora_alpha", "it must be above 0");
  fields.require(options.lora_dropout >= 0 && options.lora_dropout < 1, "lora_dropout",
                 "it must be 0 or more and less than 1");
  return options;
}

std::string base_of(const std::string& json, const std::string& where) {
  std::string base;
  const Json object = parse_object(json, where);
  AdapterFields(object, where).read("base_model_name_or_path", base);
  return base;
}

AdapterOptions continued(const AdapterOptions& given) {
  const std::string where = adapter_config_path(given.path);
  AdapterOptions read = parse_adapter_config(read_adapter_config(given.path), where);
  read.path = given.path;
  AdapterOptions asked = given, otherwise;
  for (const Key& key : AdapterOptions::keys()) {
    const Field field = key.field(&asked);
    const bool agrees = are_same(field, key.field(&read)) || are_same(field, key.field(&otherwise));
    check<ConfigError>(agrees, "adapter.", key.name, " is not what ", where,
                       " says, from which adapter.path goes on: leave it out");
  }
  return read;
}

void check_keys_of_type(const AdapterOptions& options) {
  AdapterOptions given = options, otherwise;
  for (const Key& key : AdapterOptions::keys()) {
    const std::string_view of = type_of(key.name);
    if (of.empty() || of.find(options.type) != std::string_view::npos) continue;
    check<ConfigError>(are_same(key.field(&given), key.field(&otherwise)), "adapter.", key.name, " is a key of ", of,
                       ", and adapter.type is ", options.type, ": leave it out, or set adapter.type: ", of);
  }
}

std::string adapter_config_json(const Model& model, Head head, const AdapterOptions& options, const std::string& base) {
  Json json = model.adapter.json.empty() ? Json::object() : Json::parse(model.adapter.json);
  json["task_type"] = head == Head::kScore ? "SEQ_CLS" : head == Head::kTokenClass ? "TOKEN_CLS" : "CAUSAL_LM";
  json["base_model_name_or_path"] = base.empty() ? Json() : Json(base);
  json["inference_mode"] = true;
  if (model.adapter.prefix.is_there()) return prefix_config_json(model, head, options, json.dump());
  if (model.adapter.has_ntk) {
    json["peft_type"] = kNtk;
    return json.dump(2) + "\n";
  }
  json["peft_type"] = "LORA";
  json["r"] = options.r;
  json["lora_alpha"] = number_of(options.lora_alpha);
  json["lora_dropout"] = options.lora_dropout;
  json["use_rslora"] = options.use_rslora;
  json["use_dora"] = options.use_dora;
  json["target_modules"] = targets_of(model, options);
  json["exclude_modules"] = or_null(options.exclude_modules);
  json["layers_to_transform"] = or_null(options.layers_to_transform);
  json["rank_pattern"] = patterns_of(options.rank_pattern);
  json["alpha_pattern"] = patterns_of(options.alpha_pattern);
  json["bias"] = "none";
  json["fan_in_fan_out"] = false;
  json["init_lora_weights"] = true;
  json["modules_to_save"] = head == Head::kLanguageModel ? Json() : Json{"classifier", "score"};
  return json.dump(2) + "\n";
}

}  // namespace fpdist::arch
