#include "fpdist/arch/prefix.hpp"

#include <algorithm>

#include "fpdist/arch/model.hpp"
#include "fpdist/core/error.hpp"

namespace fpdist::arch {

bool is_of_prefix(std::string_view parameter) {
  return parameter == kPromptWeight || parameter == kPrefixEmbedding || parameter.starts_with(kPrefixHidden) ||
         parameter.starts_with(kPrefixMade) || parameter.find(kPrefixKeys) != std::string_view::npos ||
         parameter.find(kPrefixValues) != std::string_view::npos;
}

namespace {

/// What makes prefixes of contexts.
void check_mapper(const AdapterOptions& options) {
  check<ConfigError>(options.context_dim > 0, "adapter.prefix_by is context: say how many numbers the column context ",
                     "has, context_dim: 512");
  check<ConfigError>(options.prefix_values.empty() && options.prefix_default.empty(),
                     "adapter.prefix_values and prefix_default are of prefixes by source, and adapter.prefix_by is "
                     "context: leave them out");
  check<ConfigError>(
      !options.prefix_projection && options.init_text.empty() && options.prompt_tuning_init == "RANDOM",
      "adapter.prefix_by: context makes prefixes by an MLP of its own, which begins as linears do: leave "
      "adapter.prefix_projection, init_text and prompt_tuning_init out");
}

/// What the keys prefix_by, prefix_values, prefix_default, prefix_drop and context_dim say of each other.
void check_choice(const AdapterOptions& options) {
  const std::vector<std::string>& values = options.prefix_values;
  if (options.prefix_by == "context") return check_mapper(options);
  check<ConfigError>(options.context_dim == 0,
                     "adapter.context_dim is of prefixes by context, and adapter.prefix_by is ", options.prefix_by,
                     ": say prefix_by: context, or leave it out");
  const auto names = [&](const std::string& value) { return std::count(values.begin(), values.end(), value); };
  if (options.prefix_by == "none") {
    check<ConfigError>(values.empty() && options.prefix_default.empty() && options.prefix_drop == 0,
                       "adapter.prefix_values, prefix_default and prefix_drop are of several prefixes, and "
                       "adapter.prefix_by is none: say prefix_by: source, or leave them out");
    return;
  }
  check<ConfigError>(!values.empty(), "adapter.prefix_by is ", options.prefix_by,
                     ": say which of its values have a prefix, prefix_values: [web, code]");
  for (const std::string& value : values)
    check<ConfigError>(!value.empty() && names(value) == 1, "adapter.prefix_values has ",
                       value.empty() ? "an empty one" : text("'", value, "' more than once"), ": name each once");
  check<ConfigError>(options.prefix_default.empty() || names(options.prefix_default) == 1, "adapter.prefix_default '",
                     options.prefix_default, "' is none of adapter.prefix_values: name one of them, or none");
}

Prefix embeddings_of(const AdapterOptions& options) {
  const bool has_text = !options.prompt_tuning_init_text.empty(), wants_text = options.prompt_tuning_init == "TEXT";
  check<ConfigError>(has_text == wants_text, "adapter.prompt_tuning_init is ", options.prompt_tuning_init,
                     wants_text ? ": say which, prompt_tuning_init_text: ..."
                                : ", and there is a prompt_tuning_init_text: say prompt_tuning_init: TEXT");
  check<ConfigError>(options.encoder_hidden_size == 0 || options.prefix_by == "context",
                     "adapter.encoder_hidden_size is of an MLP, and embeddings have one with prefix_by: context alone: "
                     "leave it out");
  return {.trains = Prefix::Trains::kEmbeddings};
}

Prefix keys_of(const Model& model, const AdapterOptions& options) {
  const bool is_cartridge = options.type == "cartridge";
  check<ConfigError>(options.init_text.empty() || options.init_weights == "normal", "adapter.init_weights is ",
                     options.init_weights, ", and there is an adapter.init_text: keep one");
  check<ConfigError>(!options.prefix_projection || options.init_text.empty(),
                     "adapter.prefix_projection makes keys and values of its own: leave adapter.init_text out");
  check<ConfigError>(!is_cartridge || options.num_frozen_tokens <= options.num_virtual_tokens,
                     "adapter.num_frozen_tokens is ", options.num_frozen_tokens, ", and the cartridge has ",
                     options.num_virtual_tokens, " tokens: freeze fewer");
  const Attention& attention = model.layers.front().attention;
  const int64_t units =
      options.encoder_hidden_size > 0 ? options.encoder_hidden_size : attention.kv_heads * attention.head_dim;
  return {.hidden = options.prefix_projection ? units : 0,
          .is_zero = options.init_weights == "zero",
          .is_cartridge = is_cartridge,
          .frozen = is_cartridge ? options.num_frozen_tokens : 0};
}

}  // namespace

Prefix prefix_of(const Model& model, const AdapterOptions& options) {
  check<ConfigError>(options.num_virtual_tokens > 0, "adapter.num_virtual_tokens is ", options.num_virtual_tokens,
                     ": say how many tokens the prefix has, num_virtual_tokens: 20 is usual");
  const int64_t positions = model.positions();
  check<ConfigError>(options.num_virtual_tokens < positions, "adapter.num_virtual_tokens is ",
                     options.num_virtual_tokens, ", and the model has positions for ", positions,
                     ", samples and all: give it fewer");
  check_choice(options);
  Prefix prefix = options.type == "prompt_tuning" ? embeddings_of(options) : keys_of(model, options);
  prefix.tokens = options.num_virtual_tokens;
  prefix.values = options.prefix_values, prefix.drop = options.prefix_drop;
  if (options.prefix_by != "context") return prefix;
  const int64_t half = (prefix.tokens * model.hidden_size + 1) / 2;
  prefix.context_dim = options.context_dim;
  prefix.hidden = options.encoder_hidden_size > 0 ? options.encoder_hidden_size : half;
  return prefix;
}

std::vector<std::pair<std::string, std::vector<int64_t>>> prefix_parameters(const Model& model) {
  const Prefix& prefix = model.adapter.prefix;
  const int64_t tokens = prefix.all_tokens(), hidden = prefix.hidden;
  const bool of_contexts = prefix.context_dim > 0, of_rows = prefix.trains == Prefix::Trains::kEmbeddings;
  if (of_rows && !of_contexts) return {{kPromptWeight, {tokens, model.hidden_size}}};
  std::vector<std::pair<std::string, std::vector<int64_t>>> all;
  const auto add_linear = [&](const std::string& name, int64_t out, int64_t in) {
    all.emplace_back(name + ".weight", std::vector{out, in});
    all.emplace_back(name + ".bias", std::vector{out});
  };
  const auto width_of = [](const Layer& layer) { return layer.attention.kv_heads * layer.attention.head_dim; };
  const int64_t width = width_of(model.layers.front());
  if (hidden > 0 && !of_contexts) all.emplace_back(kPrefixEmbedding, std::vector{tokens, width});
  if (hidden > 0) add_linear(kPrefixHidden, hidden, of_contexts ? prefix.context_dim : width);
  if (of_rows) {
    add_linear(kPrefixMade, tokens * model.hidden_size, hidden);
    return all;
  }
  for (size_t layer = 0; layer < model.layers.size(); ++layer)
    for (const char* which : {kPrefixKeys, kPrefixValues}) {
      const std::string name = "model.layers." + std::to_string(layer) + which;
      const int64_t of_token = width_of(model.layers[layer]);
      if (hidden == 0)
        all.emplace_back(name, std::vector{tokens, of_token});
      else
        add_linear(name, of_contexts ? tokens * of_token : of_token, hidden);
    }
  return all;
}

int64_t prefix_column(const Model& model, std::string_view parameter) {
  int64_t column = 0;
  for (const auto& [name, shape] : prefix_parameters(model)) {
    if (name == parameter) return column;
    column += shape[1];
  }
  throw ShapeError(text("the model has no prefix \"", parameter, "\""));
}

}  // namespace fpdist::arch
