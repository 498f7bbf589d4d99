#include "fpdist/arch/prefix.hpp"

#include <algorithm>

#include "fpdist/arch/model.hpp"
#include "fpdist/core/error.hpp"

namespace fpdist::arch {

bool is_of_prefix(std::string_view parameter) {
  return parameter == kPromptWeight || parameter == kPrefixEmbedding || parameter.starts_with(kPrefixHidden) ||
         parameter.find(kPrefixKeys) != std::string_view::npos ||
         parameter.find(kPrefixValues) != std::string_view::npos;
}

Prefix prefix_of(const Model& model, const AdapterOptions& options) {
  check<ConfigError>(options.num_virtual_tokens > 0, "adapter.num_virtual_tokens is ", options.num_virtual_tokens,
                     ": say how many tokens the prefix has, num_virtual_tokens: 20 is usual");
  const int64_t positions = model.positions();
  check<ConfigError>(options.num_virtual_tokens < positions, "adapter.num_virtual_tokens is ",
                     options.num_virtual_tokens, ", and the model has positions for ", positions,
                     ", samples and all: give it fewer");
  if (options.type == "prompt_tuning") {
    const bool has_text = !options.prompt_tuning_init_text.empty(), wants_text = options.prompt_tuning_init == "TEXT";
    check<ConfigError>(has_text == wants_text, "adapter.prompt_tuning_init is ", options.prompt_tuning_init,
                       wants_text ? ": say which, prompt_tuning_init_text: ..."
                                  : ", and there is a prompt_tuning_init_text: say prompt_tuning_init: TEXT");
    return {.trains = Prefix::Trains::kEmbeddings, .tokens = options.num_virtual_tokens};
  }
  check<ConfigError>(options.init_text.empty() || options.init_weights == "normal", "adapter.init_weights is ",
                     options.init_weights, ", and there is an adapter.init_text: keep one");
  check<ConfigError>(!options.prefix_projection || options.init_text.empty(),
                     "adapter.prefix_projection makes keys and values of its own: leave adapter.init_text out");
  const Attention& attention = model.layers.front().attention;
  const int64_t units =
      options.encoder_hidden_size > 0 ? options.encoder_hidden_size : attention.kv_heads * attention.head_dim;
  return {.tokens = options.num_virtual_tokens,
          .hidden = options.prefix_projection ? units : 0,
          .is_zero = options.init_weights == "zero"};
}

std::vector<std::pair<std::string, std::vector<int64_t>>> prefix_parameters(const Model& model) {
  if (model.adapter.prefix.row_tokens() > 0) return {{kPromptWeight, {model.adapter.prefix.tokens, model.hidden_size}}};
  std::vector<std::pair<std::string, std::vector<int64_t>>> all;
  const auto& [trains, tokens, hidden, is_zero] = model.adapter.prefix;
  const auto width_of = [](const Layer& layer) { return layer.attention.kv_heads * layer.attention.head_dim; };
  if (hidden > 0) {
    const int64_t width = width_of(model.layers.front());
    all.emplace_back(kPrefixEmbedding, std::vector{tokens, width});
    all.emplace_back(kPrefixHidden + std::string(".weight"), std::vector{hidden, width});
    all.emplace_back(kPrefixHidden + std::string(".bias"), std::vector{hidden});
  }
  for (size_t layer = 0; layer < model.layers.size(); ++layer)
    for (const char* which : {kPrefixKeys, kPrefixValues}) {
      const std::string name = "model.layers." + std::to_string(layer) + which;
      const int64_t width = width_of(model.layers[layer]);
      if (hidden == 0) all.emplace_back(name, std::vector{tokens, width});
      if (hidden > 0) all.emplace_back(name + ".weight", std::vector{width, hidden});
      if (hidden > 0) all.emplace_back(name + ".bias", std::vector{width});
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
