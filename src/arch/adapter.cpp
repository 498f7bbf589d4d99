#include "fpdist/arch/adapter.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <regex>
#include <set>
#include <string_view>

#include "fpdist/arch/model.hpp"
#include "fpdist/core/error.hpp"
#include "src/core/edit_distance.hpp"

namespace fpdist::arch {
namespace {

constexpr std::string_view kLayers = "model.layers.", kWeight = ".weight", kAllLinear = "all-linear";

int64_t layer_of(const std::string& module) { return std::atoll(module.c_str() + kLayers.size()); }

/// A linear of the layers, which may have a product beside it.
struct NamedLinear {
  std::string name;
  int64_t out, in;

  std::string leaf() const { return name.substr(name.rfind('.') + 1); }
  int64_t layer() const { return layer_of(name); }
  /// As PEFT reads an entry of a list: the whole name, or its end behind a dot.
  bool is_named(const std::string& entry) const { return name == entry || name.ends_with("." + entry); }
};

std::vector<NamedLinear> linears_of(const Model& model, Head head) {
  std::vector<NamedLinear> all;
  for (const auto& [name, shape] : parameters(model, head))
    if (name.starts_with(kLayers) && name.ends_with(kWeight) && shape.size() == 2)
      all.push_back({name.substr(0, name.size() - kWeight.size()), shape[0], shape[1]});
  return all;
}

bool is_plain(const std::string& entry) {
  return std::all_of(entry.begin(), entry.end(),
                     [](unsigned char c) { return std::isalnum(c) != 0 || c == '_' || c == '.'; });
}

std::regex pattern_of(const std::string& key, const std::string& pattern) {
  try {
    return std::regex(pattern);
  } catch (const std::regex_error& error) {
    throw ConfigError(text(key, ": '", pattern, "' is no pattern: ", error.what()));
  }
}

/// What a wrong entry is answered with.
std::string unknown_linear(const std::string& key, const std::string& entry, const std::vector<NamedLinear>& all) {
  std::set<std::string> leaves;
  for (const NamedLinear& linear : all) leaves.insert(linear.leaf());
  std::string nearest, list;
  size_t best = entry.size() / 2 + 1;
  for (const std::string& leaf : leaves) {
    list += text(list.empty() ? "" : ", ", leaf);
    if (const size_t distance = edit_distance(entry, leaf); distance < best) best = distance, nearest = leaf;
  }
  return text(key, ": '", entry, "' names no linear of this model; ",
              nearest.empty() ? "" : text("did you mean ", nearest, "? "), "There are ", list,
              ", or all-linear for every one");
}

/// Which linears the entries name; each must name one.
std::vector<bool> named(const std::string& key, const std::vector<std::string>& entries,
                        const std::vector<NamedLinear>& all) {
  std::vector<bool> is(all.size());
  for (const std::string& entry : entries) {
    const bool plain = is_plain(entry), is_all = entry == kAllLinear;
    check<ConfigError>(plain || is_all || entries.size() == 1, key, ": '", entry,
                       "' is a pattern, which stands alone: write the list as one pattern, a|b");
    const std::regex pattern = plain || is_all ? std::regex() : pattern_of(key, entry);
    bool any = false;
    for (size_t i = 0; i < all.size(); ++i) {
      const bool fits = is_all || (plain ? all[i].is_named(entry) : std::regex_match(all[i].name, pattern));
      any = any || fits;
      if (fits) is[i] = true;
    }
    check<ConfigError>(any, plain ? unknown_linear(key, entry, all)
                                  : text(key, ": the pattern '", entry,
                                         "' fits no linear; it must fit whole names such "
                                         "as ",
                                         all.front().name));
  }
  return is;
}

/// The value of the first pattern that fits the linear's name or its end behind a dot.
double own_value(const std::string& key, const std::map<std::string, std::string>& patterns, const NamedLinear& linear,
                 double otherwise) {
  for (const auto& [pattern, words] : patterns) {
    if (!std::regex_match(linear.name, pattern_of(key, "(.*\\.)?(" + pattern + ")"))) continue;
    double value = 0;
    const auto [end, error] = std::from_chars(words.data(), words.data() + words.size(), value);
    check<ConfigError>(error == std::errc() && end == words.data() + words.size() && value > 0 && std::isfinite(value),
                       key, ".", pattern, " is '", words, "'; it must be a number above 0");
    return value;
  }
  return otherwise;
}

void check_patterns(const std::string& key, const std::map<std::string, std::string>& patterns,
                    const std::vector<LowRank>& linear) {
  for (const auto& [pattern, value] : patterns) {
    const std::regex fits = pattern_of(key, "(.*\\.)?(" + pattern + ")");
    check<ConfigError>(std::any_of(linear.begin(), linear.end(),
                                   [&](const LowRank& one) { return std::regex_match(one.module, fits); }),
                       key, ".", pattern, " fits no linear that adapter.target_modules names");
  }
}

LowRank beside(const NamedLinear& linear, const AdapterOptions& options) {
  const double rank = own_value("adapter.rank_pattern", options.rank_pattern, linear, static_cast<double>(options.r));
  check<ConfigError>(rank == std::floor(rank) && rank <= static_cast<double>(int64_t{1} << 30),
                     "adapter.rank_pattern: the rank of ", linear.name, " is ", rank, "; it must be a whole number");
  const double alpha = own_value("adapter.alpha_pattern", options.alpha_pattern, linear, options.lora_alpha);
  return {.module = linear.name,
          .in = linear.in,
          .out = linear.out,
          .rank = static_cast<int64_t>(rank),
          .scale = alpha / (options.use_rslora ? std::sqrt(rank) : rank)};
}

void check_layers(const AdapterOptions& options, const Model& model) {
  for (const int64_t layer : options.layers_to_transform)
    check<ConfigError>(layer >= 0 && layer < model.layer_count(), "adapter.layers_to_transform has ", layer,
                       "; the model's layers are 0 to ", model.layer_count() - 1);
}

}  // namespace

int64_t LowRank::layer() const { return layer_of(module); }

bool is_of_adapter(std::string_view parameter) {
  return is_of_prefix(parameter) || is_of_ntk(parameter) || parameter.ends_with(kLowRankA) ||
         parameter.ends_with(kLowRankB) || parameter.ends_with(kMagnitude);
}

const LowRank* Adapter::of(const std::string& module) const {
  const auto found =
      std::find_if(linear.begin(), linear.end(), [&](const LowRank& one) { return one.module == module; });
  return found == linear.end() ? nullptr : &*found;
}

Adapter adapter_of(const Model& model, Head head, const AdapterOptions& options) {
  Adapter adapter;
  if (!options.is_on()) return adapter;
  if (options.type == "ntk") {
    adapter.has_ntk = true;
    return adapter;
  }
  if (options.type != "lora") {
    adapter.prefix = prefix_of(model, options);
    return adapter;
  }
  adapter.init = options.init_lora_weights == "gaussian" ? Adapter::Init::kGaussian
                 : options.init_lora_weights == "false"  ? Adapter::Init::kBothUniform
                                                         : Adapter::Init::kUniform;
  adapter.has_magnitude = options.use_dora, adapter.dropout = options.lora_dropout;
  adapter.is_float32 = options.lora_dtype == "float32";
  check_layers(options, model);
  const std::vector<NamedLinear> all = linears_of(model, head);
  const std::vector<bool> wanted = named(
      "adapter.target_modules",
      options.target_modules.empty() ? std::vector<std::string>{"q_proj", "v_proj"} : options.target_modules, all);
  const std::vector<bool> unwanted = named("adapter.exclude_modules", options.exclude_modules, all);
  const std::vector<int64_t>& layers = options.layers_to_transform;
  for (size_t i = 0; i < all.size(); ++i) {
    const bool is_here = layers.empty() || std::find(layers.begin(), layers.end(), all[i].layer()) != layers.end();
    if (wanted[i] && !unwanted[i] && is_here) adapter.linear.push_back(beside(all[i], options));
  }
  check<ConfigError>(adapter.is_there(),
                     "adapter.exclude_modules and layers_to_transform leave no linear of those that ",
                     "adapter.target_modules names");
  check_patterns("adapter.rank_pattern", options.rank_pattern, adapter.linear);
  check_patterns("adapter.alpha_pattern", options.alpha_pattern, adapter.linear);
  return adapter;
}

std::vector<NamedShape> trained_parameters(const Model& model, Head head) {
  if (!model.adapter.is_there()) return parameters(model, head);
  std::vector<NamedShape> all;
  if (model.adapter.prefix.is_there()) all = prefix_parameters(model);
  if (model.adapter.has_ntk) all = ntk_parameters(model);
  for (const LowRank& one : model.adapter.linear) {
    all.emplace_back(one.module + kLowRankA, std::vector{one.rank, one.in});
    all.emplace_back(one.module + kLowRankB, std::vector{one.out, one.rank});
    if (model.adapter.has_magnitude) all.emplace_back(one.module + kMagnitude, std::vector{one.out});
  }
  for (NamedShape& one : score_parameters(model, head)) all.push_back(std::move(one));
  return all;
}

int64_t trained_count(const Model& model, Head head) { return element_count(trained_parameters(model, head)); }

}  // namespace fpdist::arch
