#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "fpdist/arch/model.hpp"

namespace fpdist::arch {
namespace {

constexpr ModelShape kShape{
    .layers = 2, .hidden = 16, .intermediate = 20, .heads = 4, .kv_heads = 2, .head_dim = 6, .vocab = 23};
constexpr int64_t kMatrices = 16 * 24 * 2 + 16 * 12 * 2 + 3 * 16 * 20, kTable = 23 * 16;

std::vector<std::string> names(const Model& model, Head head) {
  std::vector<std::string> all;
  for (const auto& [name, shape] : parameters(model, head)) all.push_back(name);
  return all;
}

TEST(Parameters, AreListedInHuggingFaceOrder) {
  Model model = model_of_shape("qwen2", kShape);
  model.layers.resize(1);
  const std::string layer = "model.layers.0.", self = layer + "self_attn.";
  EXPECT_EQ(
      names(model, Head::kLanguageModel),
      (std::vector<std::string>{kEmbeddingWeight, self + "q_proj.weight", self + "q_proj.bias", self + "k_proj.weight",
                                self + "k_proj.bias", self + "v_proj.weight", self + "v_proj.bias",
                                self + "o_proj.weight", layer + "mlp.gate_proj.weight", layer + "mlp.up_proj.weight",
                                layer + "mlp.down_proj.weight", layer + "input_layernorm.weight",
                                layer + "post_attention_layernorm.weight", "model.norm.weight", "lm_head.weight"}));
  model.tie_word_embeddings = true;
  EXPECT_EQ(names(model, Head::kLanguageModel).back(), "model.norm.weight");
  EXPECT_EQ(names(model, Head::kScore).back(), kScoreWeight);
  EXPECT_EQ(parameters(model, Head::kTokenClass).back(), NamedShape(kScoreBias, {2}));
  EXPECT_EQ(*(parameters(model, Head::kTokenClass).end() - 2), NamedShape(kScoreWeight, {2, model.hidden_size}));
}

TEST(Parameters, SayWhatAModelEndsIn) {
  const Model model = model_of_shape("llama", kShape);
  for (const Head head : {Head::kLanguageModel, Head::kScore, Head::kTokenClass}) {
    const std::vector<std::string> all = names(model, head);
    EXPECT_EQ(head_of([&](const char* name) { return std::count(all.begin(), all.end(), name) > 0; }), head);
  }
  EXPECT_TRUE(is_of_score(kScoreWeight) && is_of_score(kScoreBias) && !is_of_score("lm_head.weight"));
}

TEST(Parameters, EveryFeatureCounts) {
  Model model = model_of_shape("llama", kShape);
  const int64_t plain = 2 * (kMatrices + 2 * 16) + kTable + 16;
  EXPECT_EQ(parameter_count(model, Head::kLanguageModel), plain + kTable);
  EXPECT_EQ(parameter_count(model, Head::kScore), plain + 16);
  model.tie_word_embeddings = true;
  EXPECT_EQ(parameter_count(model, Head::kLanguageModel), plain);
  for (Layer& layer : model.layers) layer.attention.o_bias = layer.mlp.bias = true;
  EXPECT_EQ(parameter_count(model, Head::kLanguageModel), plain + 2 * (16 + 20 + 20 + 16));
  EXPECT_EQ(parameter_count(model_of_shape("qwen2", kShape), Head::kScore), plain + 2 * (24 + 12 + 12) + 16);
  EXPECT_EQ(parameter_count(model_of_shape("qwen3", kShape), Head::kScore), plain + 2 * (6 + 6) + 16);
}

TEST(Parameters, LayersNeedNotBeAlike) {
  Model model = model_of_shape("llama", kShape);
  model.layers.back().mlp.intermediate = 1;
  EXPECT_EQ(parameter_count(model, Head::kScore), 2 * (kMatrices + 2 * 16) + kTable + 16 + 16 - 3 * 16 * 19);
}

}  // namespace
}  // namespace fpdist::arch
