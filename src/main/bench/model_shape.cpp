#include "src/main/bench/model_shape.hpp"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>

#include "fpdist/core/error.hpp"

namespace fpdist::bench {
namespace {

struct Shape {
  arch::Family family;
  int64_t vocab, hidden, intermediate, layers, heads, kv_heads, head_dim;
  double theta;
  bool tied = false;
};

const std::map<std::string, Shape>& built_in() {
  using enum arch::Family;
  static const std::map<std::string, Shape> shapes = {
      {"qwen2.5-7b", {kQwen2, 152064, 3584, 18944, 28, 28, 4, 128, 1e6}},
      {"qwen2.5-0.5b", {kQwen2, 151936, 896, 4864, 24, 14, 2, 64, 1e6, true}},
      {"llama-3-8b", {kLlama, 128256, 4096, 14336, 32, 32, 8, 128, 5e5}},
      {"small", {kLlama, 8192, 512, 1536, 8, 8, 4, 64, 1e4}},
  };
  return shapes;
}

arch::Model from_shape(const Shape& shape) {
  arch::Model config;
  config.family = shape.family;
  config.vocab_size = shape.vocab, config.hidden_size = shape.hidden, config.intermediate_size = shape.intermediate;
  config.num_hidden_layers = shape.layers, config.head_dim = shape.head_dim;
  config.num_attention_heads = shape.heads, config.num_key_value_heads = shape.kv_heads;
  config.max_position_embeddings = 131072, config.tie_word_embeddings = shape.tied;
  config.rope.theta = shape.theta;
  return config;
}

}  // namespace

arch::Model model_shape(const std::string& name, int64_t layers) {
  arch::Model config;
  const auto found = built_in().find(name);
  if (found != built_in().end()) {
    config = from_shape(found->second);
  } else {
    std::filesystem::path path = name;
    if (std::filesystem::is_directory(path)) path /= "config.json";
    std::ifstream file(path);
    check<ConfigError>(file.good(), "--model ", name,
                       " is neither qwen2.5-7b, qwen2.5-0.5b, llama-3-8b or small nor a config.json that can be read");
    config = arch::parse_model_config(std::string(std::istreambuf_iterator<char>(file), {}), path.string());
  }
  if (layers > 0) config.num_hidden_layers = layers;
  return config;
}

}  // namespace fpdist::bench
