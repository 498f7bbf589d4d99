#include "fpdist/arch/adapter.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "fpdist/arch/model.hpp"
#include "fpdist/core/error.hpp"
#include "src/arch/adapter_json.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::arch {
namespace {

using test::expect_words, test::refusal;

const Model kModel = model_of_shape(
    "llama", {.layers = 3, .hidden = 16, .intermediate = 20, .heads = 4, .kv_heads = 2, .head_dim = 4, .vocab = 19});

AdapterOptions lora(std::vector<std::string> targets = {}) {
  AdapterOptions options;
  options.type = "lora", options.target_modules = std::move(targets);
  return options;
}

Adapter adapter(const AdapterOptions& options) { return adapter_of(kModel, Head::kLanguageModel, options); }

TEST(Adapter, NamesAreListsPatternsOrAllLinear) {
  EXPECT_FALSE(adapter({}).is_there());
  EXPECT_EQ(adapter(lora()).linear.size(), 6);
  EXPECT_EQ(adapter(lora({"all-linear"})).linear.size(), 21);
  EXPECT_EQ(adapter(lora({"down_proj", "self_attn.q_proj"})).linear.size(), 6);
  EXPECT_EQ(adapter(lora({"model.layers.2.mlp.up_proj"})).linear.size(), 1);
  EXPECT_EQ(adapter(lora({".*layers\\.[01]\\.mlp.*"})).linear.size(), 6);
  AdapterOptions some = lora({"all-linear"});
  some.exclude_modules = {"o_proj"}, some.layers_to_transform = {0, 2};
  EXPECT_EQ(adapter(some).linear.size(), 12);
}

TEST(Adapter, RanksAndScalesFollowTheirPatterns) {
  AdapterOptions options = lora({"q_proj", "down_proj"});
  options.r = 4, options.lora_alpha = 6;
  options.rank_pattern = {{"down_proj", "9"}}, options.alpha_pattern = {{"layers.1.mlp.down_proj", "18"}};
  const Adapter all = adapter(options);
  const auto of = [&](const char* module) { return *all.of(module); };
  EXPECT_EQ(of("model.layers.0.self_attn.q_proj").rank, 4);
  EXPECT_EQ(of("model.layers.0.self_attn.q_proj").scale, 1.5);
  EXPECT_EQ(of("model.layers.0.mlp.down_proj").rank, 9);
  EXPECT_EQ(of("model.layers.0.mlp.down_proj").scale, 6.0 / 9);
  EXPECT_EQ(of("model.layers.1.mlp.down_proj").scale, 2);
  EXPECT_EQ(all.of("model.layers.0.mlp.up_proj"), nullptr);
  options.use_rslora = true;
  EXPECT_EQ(adapter(options).of("model.layers.1.mlp.down_proj")->scale, 6);
}

TEST(Adapter, TrainedWeightsAreItsOwnAndTheScoreHead) {
  Model model = kModel;
  EXPECT_EQ(trained_parameters(model, Head::kScore), parameters(model, Head::kScore));
  AdapterOptions options = lora({"v_proj"});
  options.layers_to_transform = {1}, options.r = 3;
  model.adapter = adapter(options);
  const std::vector<NamedShape> wanted{{"model.layers.1.self_attn.v_proj.lora_A.weight", {3, 16}},
                                       {"model.layers.1.self_attn.v_proj.lora_B.weight", {8, 3}}};
  EXPECT_EQ(trained_parameters(model, Head::kLanguageModel), wanted);
  EXPECT_EQ(trained_parameters(model, Head::kScore).back().first, kScoreWeight);
  EXPECT_EQ(trained_parameters(model, Head::kTokenClass).back().first, kScoreBias);
  EXPECT_TRUE(is_of_adapter(wanted[0].first) && is_of_adapter(wanted[1].first) && !is_of_adapter(kScoreWeight));
}

TEST(Adapter, WhatIsWrongIsSaidInOneLine) {
  const auto said = [](const std::function<void(AdapterOptions&)>& change) {
    AdapterOptions options = lora();
    change(options);
    return refusal<ConfigError>([&] { (void)adapter(options); });
  };
  expect_words(said([](auto& o) { o.target_modules = {"q_porj"}; }),
               {"adapter.target_modules: 'q_porj' names no linear", "did you mean q_proj?", "down_proj", "all-linear"});
  expect_words(said([](auto& o) { o.target_modules = {"query_key_value"}; }),
               {"names no linear", "There are down_proj"});
  expect_words(said([](auto& o) { o.target_modules = {"q_proj", ".*_proj"}; }), {"'.*_proj' is a pattern", "a|b"});
  expect_words(said([](auto& o) { o.target_modules = {"q_proj("}; }), {"'q_proj(' is no pattern"});
  expect_words(said([](auto& o) { o.target_modules = {"(q|v)_proj"}; }), {"fits no linear", "self_attn.q_proj"});
  expect_words(said([](auto& o) { o.exclude_modules = {"lm_head"}; }), {"adapter.exclude_modules: 'lm_head'"});
  expect_words(said([](auto& o) { o.exclude_modules = {"self_attn.q_proj", "v_proj"}; }), {"leave no linear"});
  expect_words(said([](auto& o) { o.layers_to_transform = {3}; }), {"layers_to_transform has 3", "0 to 2"});
  expect_words(said([](auto& o) { o.rank_pattern = {{"o_proj", "4"}}; }), {"rank_pattern.o_proj fits no linear"});
  expect_words(said([](auto& o) { o.rank_pattern = {{"q_proj", "x"}}; }), {"rank_pattern.q_proj is 'x'", "above 0"});
  expect_words(said([](auto& o) { o.rank_pattern = {{"q_proj", "1.5"}}; }), {"1.5", "whole number"});
  expect_words(said([](auto& o) { o.alpha_pattern = {{"(", "2"}}; }), {"alpha_pattern: '(.*", "is no pattern"});
}

TEST(Adapter, ItsFileSaysWhatTheOptionsDo) {
  AdapterOptions options = lora({"all-linear"});
  options.r = 5, options.lora_alpha = 2.5, options.lora_dropout = 0.05, options.use_rslora = true;
  options.exclude_modules = {"o_proj"}, options.layers_to_transform = {1};
  options.rank_pattern = {{"q_proj", "3"}}, options.alpha_pattern = {{"down_proj", "1.5"}};
  Model model = kModel;
  model.adapter = adapter(options);
  model.adapter.json = R"({"a_field_from_the_future": [1], "r": 3})";
  const std::string json = adapter_config_json(model, Head::kLanguageModel, options, "models/base");
  expect_words(json, {"a_field_from_the_future", "models/base", "CAUSAL_LM"});
  const Adapter back = adapter(parse_adapter_config(json, "adapter_config.json"));
  EXPECT_EQ(back.dropout, 0.05);
  ASSERT_EQ(back.linear.size(), model.adapter.linear.size());
  for (size_t i = 0; i < back.linear.size(); ++i) {
    EXPECT_EQ(back.linear[i].module, model.adapter.linear[i].module);
    EXPECT_EQ(back.linear[i].rank, model.adapter.linear[i].rank);
    EXPECT_EQ(back.linear[i].scale, model.adapter.linear[i].scale);
  }
  expect_words(adapter_config_json(model, Head::kTokenClass, options, ""), {"TOKEN_CLS", "\"score\""});
  options.target_modules = {".*q_proj"}, options.layers_to_transform = {}, options.exclude_modules = {};
  EXPECT_EQ(parse_adapter_config(adapter_config_json(model, Head::kScore, options, ""), "").target_modules,
            options.target_modules);
  options.target_modules = {"q_proj", "o_proj"}, options.exclude_modules = {"layers.1.self_attn.o_proj"};
  EXPECT_EQ(parse_adapter_config(adapter_config_json(model, Head::kScore, options, ""), "").exclude_modules,
            options.exclude_modules);
}

TEST(Adapter, FilesOfOtherKindsAreRefusedByName) {
  const auto said = [](const std::string& field) {
    return refusal<ModelFileError>([&] {
      (void)parse_adapter_config(R"({"peft_type": "LORA", "r": 4, "target_modules": ["q_proj"], )" + field + "}", "f");
    });
  };
  EXPECT_EQ(said(R"("bias": "none", "eva_config": null, "use_rslora": true)"), "accepted");
  for (const char* field :
       {R"("bias": "all")", R"("use_qalora": true)", R"("fan_in_fan_out": true)", R"("corda_config": {"a": 1})",
        R"("init_lora_weights": "pissa")", R"("modules_to_save": ["embed_tokens"])", R"("layer_replication": [[0, 2]])",
        R"("layers_pattern": "h")", R"("lora_alpha": "x")", R"("lora_dropout": 1.0)"})
    expect_words(said(field), {"f: \"", std::string(field).substr(0, std::string(field).find(':'))});
  expect_words(refusal<ModelFileError>([] { (void)parse_adapter_config(R"({"peft_type": "IA3"})", "f"); }),
               {"IA3", "LORA"});
  expect_words(refusal<ModelFileError>([] { (void)parse_adapter_config("[", "f"); }), {"f"});
}

}  // namespace
}  // namespace fpdist::arch
