#include "fpdist/arch/quantization.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "fpdist/arch/model.hpp"
#include "fpdist/core/error.hpp"
#include "src/arch/quantization_json.hpp"

namespace fpdist::arch {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kWeight = ".weight", kLayers = "model.layers.";
constexpr int kMostRanks = 64;  // of tp, among which those that work are named

/// As transformers reads an entry: the beginning of a module's name, or its end.
bool is_skipped(std::string_view module, const std::vector<std::string>& skipped) {
  return std::any_of(skipped.begin(), skipped.end(),
                     [&](const std::string& entry) { return module.starts_with(entry) || module.ends_with(entry); });
}

/// A weight that `tp` ranks cut through a block; "" where none is. Rows of a weight follow each other, so that some of
/// its rows are whole blocks sooner than some of its columns.
std::string cut_block(const Model& model, int tp) {
  const Attention& attention = model.layers.front().attention;
  const int64_t q = attention.heads * attention.head_dim, inner = model.layers.front().mlp.intermediate;
  const int64_t kv = attention.kv_heads * key_value_replicas(model, tp) / tp * attention.head_dim;
  const auto is_whole = [](int64_t elements) { return elements % kQuantizedBlock == 0; };
  const auto columns = [&](int64_t width) { return width % tp == 0 && is_whole(width / tp); };
  const auto rows = [&](int64_t count) { return count % tp == 0 && is_whole(count / tp * model.hidden_size); };
  const std::array<std::pair<const char*, bool>, 5> weights{std::pair{"self_attn.o_proj", columns(q)},
                                                            {"mlp.down_proj", columns(inner)},
                                                            {"self_attn.q_proj", rows(q)},
                                                            {"self_attn.k_proj", is_whole(kv * model.hidden_size)},
                                                            {"mlp.up_proj", rows(inner)}};
  for (const auto& [name, fits] : weights) {
    const std::string weight = text(kLayers, 0, ".", name, kWeight);
    if (!fits && is_quantized(model, weight)) return weight;
  }
  return "";
}

/// Whether tp can be this at all.
bool divides_heads(const Model& model, int tp) {
  try {
    check_tensor_parallel(model, tp);
    return true;
  } catch (const ConfigError&) {
    return false;
  }
}

}  // namespace

bool is_quantized(const Model& model, std::string_view weight) {
  if (!model.quantization || !weight.starts_with(kLayers) || !weight.ends_with(kWeight)) return false;
  const std::string_view module = weight.substr(0, weight.size() - kWeight.size());
  return module.ends_with("_proj") && !is_skipped(module, model.quantization->skipped);
}

int64_t quantized_count(const Model& model) {
  std::vector<NamedShape> all = parameters(model, Head::kLanguageModel);
  std::erase_if(all, [&](const NamedShape& one) { return !is_quantized(model, one.first); });
  return element_count(all);
}

double quantized_bytes(const Quantization& quantization, int tp) {
  const double scale = quantization.nested && tp == 1 ? 1.0 + 4.0 / kNestedBlock : 4.0;
  return 0.5 + scale / kQuantizedBlock;
}

void check_quantized_cuts(const Model& model, int tp) {
  if (!model.quantization || tp == 1) return;
  const std::string weight = cut_block(model, tp);
  if (weight.empty()) return;
  std::string fit = "1";
  for (int other = 2; other <= kMostRanks; ++other)
    if (divides_heads(model, other) && cut_block(model, other).empty()) fit += text(", ", other);
  throw ConfigError(text("parallel.tp ", tp, " would cut through blocks of ", kQuantizedBlock, " elements of ", weight,
                         ", which is quantized: parallel.tp may be ", fit));
}

std::optional<Quantization> read_quantization(const Fields& fields) {
  const Json* const given = fields.find("quantization_config");
  if (given == nullptr) return std::nullopt;
  const char* const cure = "weights in bitsandbytes' nf4 are read here, others in their unquantised model";
  fields.require(given->is_object() && given->value("quant_method", "") == "bitsandbytes" &&
                     given->value("load_in_4bit", given->value("_load_in_4bit", false)),
                 "quantization_config", text("is ", given->dump(), ": ", cure));
  const Fields inner(*given, fields.where());
  const std::string type = inner.word("bnb_4bit_quant_type", "fp4");
  inner.require(type == "nf4", "bnb_4bit_quant_type", text("is \"", type, "\": ", cure));
  Quantization read{.is_stored = true, .nested = inner.flag("bnb_4bit_use_double_quant")};
  if (const Json* skipped = inner.find("llm_int8_skip_modules")) {
    const bool are_names = skipped->is_array() && std::all_of(skipped->begin(), skipped->end(), [](const Json& one) {
                             return one.is_string() && !one.get_ref<const std::string&>().empty();
                           });
    inner.require(are_names, "llm_int8_skip_modules", "is no list of names");
    read.skipped = skipped->get<std::vector<std::string>>();
  }
  return read;
}

}  // namespace fpdist::arch
