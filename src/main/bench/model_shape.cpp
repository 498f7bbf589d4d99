#include "src/main/bench/model_shape.hpp"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>

#include "fpdist/core/error.hpp"
#include "src/files/inputs.hpp"

namespace fpdist::bench {
namespace {

struct BuiltIn {
  const char* family;
  arch::ModelShape shape;
  double theta;
  bool tied = false;
};

const std::map<std::string, BuiltIn>& built_in() {
  static const std::map<std::string, BuiltIn> all = {
      // layers, hidden, intermediate, heads, kv_heads, head_dim, vocab
      {"qwen2.5-7b", {"qwen2", {28, 3584, 18944, 28, 4, 128, 152064}, 1e6}},
      {"qwen2.5-0.5b", {"qwen2", {24, 896, 4864, 14, 2, 64, 151936}, 1e6, true}},
      {"llama-3-8b", {"llama", {32, 4096, 14336, 32, 8, 128, 128256}, 5e5}},
      {"small", {"llama", {8, 512, 1536, 8, 4, 64, 8192}, 1e4}},
  };
  return all;
}

arch::Model model_of(const BuiltIn& from) {
  arch::Model model = arch::model_of_shape(from.family, from.shape);
  model.max_position_embeddings = 131072, model.tie_word_embeddings = from.tied;
  for (arch::Layer& layer : model.layers) layer.attention.rope.theta = from.theta;
  return model;
}

}  // namespace

arch::Model model_shape(const std::string& name, int64_t layers) {
  arch::Model config;
  const auto found = built_in().find(name);
  if (found != built_in().end()) {
    config = model_of(found->second);
  } else {
    std::filesystem::path path = name;
    if (std::filesystem::is_directory(path)) path /= "config.json";
    std::ifstream file(path);
    check<ConfigError>(file.good(), "--model ", name,
                       " is neither qwen2.5-7b, qwen2.5-0.5b, llama-3-8b or small nor a config.json that can be read");
    config = arch::parse_model_config(std::string(std::istreambuf_iterator<char>(file), {}), path.string());
  }
  if (layers > 0) config.layers.resize(static_cast<size_t>(layers), config.layers.front());
  return config;
}

void check_spared(const std::string& name, const std::string& json) {
  files::Inputs inputs;
  inputs.add("--model", name);
  inputs.add_folder("--model", name);
  inputs.check_spared(json, "give --json another name");
}

}  // namespace fpdist::bench
