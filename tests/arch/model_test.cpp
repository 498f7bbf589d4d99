#include "fpdist/arch/model.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "fpdist/core/error.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::arch {
namespace {

using Json = nlohmann::ordered_json;

Json llama() {
  return {{"model_type", "llama"},   {"vocab_size", 128256},       {"hidden_size", 4096},
          {"num_hidden_layers", 32}, {"intermediate_size", 14336}, {"num_attention_heads", 32}};
}

Attention attention_of(const Json& json) { return parse_model_config(json.dump(), "c").layers.back().attention; }

std::string refusal(const Json& json) {
  return test::refusal<ModelFileError>([&] { parse_model_config(json.dump(), "dir/config.json"); });
}

Json with(const char* field, Json value) {
  Json json = llama();
  json[field] = std::move(value);
  return json;
}

void expect_refused(const Json& json, const std::string& field) {
  const std::string what = refusal(json);
  EXPECT_NE(what.find("dir/config.json"), std::string::npos) << what;
  EXPECT_NE(what.find("\"" + field + "\""), std::string::npos) << what << " should name " << field;
}

TEST(Model, DefaultsAreThoseOfTransformers) {
  const arch::Model config = parse_model_config(llama().dump(), "c");
  const Attention& attention = config.layers.back().attention;
  EXPECT_EQ(config.layer_count(), 32);
  EXPECT_EQ(attention.kv_heads, 32);
  EXPECT_EQ(attention.head_dim, 128);
  EXPECT_EQ(config.max_position_embeddings, 2048);
  EXPECT_EQ(config.norm_eps, 1e-6);
  EXPECT_EQ(config.layers.back().norm_eps, 1e-6);
  EXPECT_EQ(attention.rope.theta, 10000.0);
  EXPECT_EQ(attention.rope.type, RopeConfig::Type::kDefault);
  EXPECT_FALSE(attention.qkv_bias || attention.o_bias || attention.qk_norm || config.tie_word_embeddings);
  EXPECT_EQ(config.shape().vocab, 128256);
  Json qwen3 = llama();
  qwen3["model_type"] = "qwen3";
  EXPECT_EQ(attention_of(qwen3).head_dim, 128);
  EXPECT_TRUE(attention_of(qwen3).qk_norm);
  Json qwen2 = llama();
  qwen2["model_type"] = "qwen2";
  qwen2["num_attention_heads"] = 64;  // absent: the family's 32; null: as many as query heads
  EXPECT_EQ(attention_of(qwen2).kv_heads, 32);
  qwen2["num_key_value_heads"] = nullptr;
  EXPECT_EQ(attention_of(qwen2).kv_heads, 64);
  EXPECT_TRUE(attention_of(qwen2).qkv_bias);
  EXPECT_FALSE(attention_of(qwen2).o_bias);
}

TEST(Model, OldAndNewSpellingsOfRotaryAgree) {
  const Json llama3 = {{"rope_type", "llama3"},
                       {"factor", 8.0},
                       {"low_freq_factor", 1.0},
                       {"high_freq_factor", 4.0},
                       {"original_max_position_embeddings", 4096}};
  Json old_spelling = with("rope_theta", 500000.0), new_spelling = llama();
  old_spelling["rope_scaling"] = llama3;
  new_spelling["rope_parameters"] = llama3;
  new_spelling["rope_parameters"]["rope_theta"] = 500000.0;
  for (const Json& json : {old_spelling, new_spelling}) {
    const RopeConfig rope = attention_of(json).rope;
    EXPECT_EQ(rope.type, RopeConfig::Type::kLlama3);
    EXPECT_EQ(rope.theta, 500000.0);
    EXPECT_EQ(rope.factor, 8.0);
    EXPECT_EQ(rope.original_max_position_embeddings, 4096);
  }
  const RopeConfig linear = attention_of(with("rope_scaling", {{"type", "linear"}, {"factor", 2}})).rope;
  EXPECT_EQ(linear.type, RopeConfig::Type::kLinear);
  EXPECT_EQ(linear.factor, 2.0);
  EXPECT_EQ(attention_of(with("rope_scaling", nullptr)).rope.type, RopeConfig::Type::kDefault);
}

TEST(Model, MissingAndSenselessFieldsAreNamed) {
  for (const char* field :
       {"vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads"}) {
    Json json = llama();
    json.erase(field);
    expect_refused(json, field);
    for (const Json& bad : {Json(0), Json(-4), Json(1.5), Json("8"), Json(uint64_t{1} << 40), Json::array()})
      expect_refused(with(field, bad), field);
  }
  expect_refused(with("num_key_value_heads", 5), "num_key_value_heads");
  expect_refused(with("head_dim", 7), "head_dim");
  expect_refused(with("num_attention_heads", 33), "hidden_size");
  expect_refused(with("rms_norm_eps", 0), "rms_norm_eps");
  expect_refused(with("rope_theta", "big"), "rope_theta");
  expect_refused(with("tie_word_embeddings", 1), "tie_word_embeddings");
  expect_refused(with("num_hidden_layers", 1 << 17), "num_hidden_layers");
  expect_refused(with("model_type", "gpt2"), "model_type");
  EXPECT_NE(refusal(with("model_type", "gpt2")).find("choose llama | qwen2 | qwen3"), std::string::npos);
  expect_refused(with("model_type", nullptr), "model_type");
  EXPECT_NE(refusal(Json::array()).find("not a JSON object"), std::string::npos);
  EXPECT_THROW(parse_model_config("{", "c"), ModelFileError);
  EXPECT_THROW(parse_model_config("{\"a\":" + std::string(1000, '[') + std::string(1000, ']') + "}", "c"),
               ModelFileError);
}

TEST(Model, WhatWouldChangeTheModelIsRefusedByName) {
  expect_refused(with("hidden_act", "gelu"), "hidden_act");
  expect_refused(with("use_sliding_window", true), "use_sliding_window");
  expect_refused(with("layer_types", {"full_attention", "sliding_attention"}), "layer_types");
  expect_refused(with("attention_dropout", 0.1), "attention_dropout");
  expect_refused(with("partial_rotary_factor", 0.5), "partial_rotary_factor");
  expect_refused(with("rope_scaling", {{"type", "yarn"}, {"factor", 2.0}}), "rope_type");
  expect_refused(with("rope_scaling", {{"type", "linear"}}), "factor");
  expect_refused(with("rope_scaling", {{"rope_type", "llama3"}, {"factor", 8.0}}), "low_freq_factor");
  expect_refused(with("rope_scaling", 3), "rope_scaling");
  expect_refused(with("rope_parameters", {{"full_attention", {{"rope_type", "default"}}}}), "full_attention");
  EXPECT_EQ(refusal(with("use_sliding_window", false)), "accepted");
}

TEST(Model, AQuantizationConfigSaysWhichWeightsLieInFourBits) {
  EXPECT_FALSE(parse_model_config(with("model_type", "llama").dump(), "c").quantization);
  Json nf4{{"quant_method", "bitsandbytes"}, {"load_in_4bit", true}, {"bnb_4bit_quant_type", "nf4"}};
  const auto parsed = [&](const Json& given) {
    return parse_model_config(with("quantization_config", given).dump(), "c");
  };
  Model model = parsed(nf4);
  ASSERT_TRUE(model.quantization);
  EXPECT_TRUE(model.quantization->is_stored && !model.quantization->nested);
  EXPECT_TRUE(is_quantized(model, "model.layers.0.self_attn.q_proj.weight"));
  for (const char* plain : {"lm_head.weight", "model.embed_tokens.weight", "model.layers.0.input_layernorm.weight",
                            "model.layers.0.self_attn.q_proj.bias"})
    EXPECT_FALSE(is_quantized(model, plain)) << plain;
  const int64_t all = quantized_count(model);
  nf4["bnb_4bit_use_double_quant"] = true, nf4["llm_int8_skip_modules"] = {"model.layers.0", "up_proj"};
  model = parsed(nf4);
  EXPECT_TRUE(model.quantization->nested);
  EXPECT_FALSE(is_quantized(model, "model.layers.0.self_attn.q_proj.weight"));
  EXPECT_FALSE(is_quantized(model, "model.layers.1.mlp.up_proj.weight"));
  EXPECT_LT(quantized_count(model), all);
  EXPECT_DOUBLE_EQ(8 * quantized_bytes({.nested = false}, 1), 4.5);
  EXPECT_NEAR(8 * quantized_bytes({.nested = true}, 1), 4.127, 1e-3);
  EXPECT_DOUBLE_EQ(8 * quantized_bytes({.nested = true}, 2), 4.5);
  nf4["bnb_4bit_quant_type"] = "fp4";
  expect_refused(with("quantization_config", nf4), "bnb_4bit_quant_type");
  nf4.erase("bnb_4bit_quant_type");
  expect_refused(with("quantization_config", nf4), "bnb_4bit_quant_type");
  nf4["load_in_4bit"] = false;
  expect_refused(with("quantization_config", nf4), "quantization_config");
  expect_refused(with("quantization_config", {{"bits", 4}}), "quantization_config");
  EXPECT_NE(refusal(with("quantization_config", {{"quant_method", "gptq"}, {"load_in_4bit", true}})).find("gptq"),
            std::string::npos);
}

TEST(Model, TensorParallelismCutsBetweenBlocksOrSaysWhichDegreesDo) {
  Model model = model_of_shape(
      "llama", {.layers = 1, .hidden = 64, .intermediate = 384, .heads = 8, .kv_heads = 4, .head_dim = 32, .vocab = 8});
  EXPECT_NO_THROW(check_quantized_cuts(model, 8));
  model.quantization.emplace();
  for (const int fits : {1, 2}) EXPECT_NO_THROW(check_quantized_cuts(model, fits));
  const auto said = test::refusal<ConfigError>([&] { check_quantized_cuts(model, 4); });
  test::expect_words(said, {"parallel.tp 4", "blocks of 64", "mlp.down_proj.weight", "may be 1, 2"});
}

TEST(Model, ExportKeepsUnknownFieldsAndTheirOrder) {
  Json json = with("from_the_future", {{"kept", {1, 2.5, nullptr}}});
  json["torch_dtype"] = "bfloat16";
  const arch::Model config = parse_model_config(json.dump(), "c");
  const Json out = Json::parse(arch::export_config_json(config, {.dtype = "float32"}));
  Json expected = json;
  expected["torch_dtype"] = "float32";
  expected["architectures"] = Json::array({"LlamaForCausalLM"});
  EXPECT_EQ(out.dump().substr(0, 60), expected.dump().substr(0, 60));  // same order
  EXPECT_EQ(nlohmann::json(out), nlohmann::json(expected));
}

TEST(Model, ExportWritesDtypeInTheSpellingOfTheInput) {
  Json json = with("dtype", "bfloat16");
  Json out = Json::parse(arch::export_config_json(parse_model_config(json.dump(), "c"), {.dtype = "float64"}));
  EXPECT_EQ(out["dtype"], "float64");
  EXPECT_FALSE(out.contains("torch_dtype"));
  out = Json::parse(arch::export_config_json(parse_model_config(llama().dump(), "c"), {.dtype = "float64"}));
  EXPECT_EQ(out["torch_dtype"], "float64");
  json["torch_dtype"] = "bfloat16";  // both: neither may say what the weights are not
  out = Json::parse(export_config_json(parse_model_config(json.dump(), "c"), {.dtype = "float32"}));
  EXPECT_EQ(out["dtype"], "float32");
  EXPECT_EQ(out["torch_dtype"], "float32");
}

TEST(Model, ARewardModelIsASequenceClassifierWithOneLabel) {
  const Json out = Json::parse(
      arch::export_config_json(parse_model_config(llama().dump(), "c"), {.dtype = "float32", .head = Head::kScore}));
  EXPECT_EQ(out["architectures"], Json::array({"LlamaForSequenceClassification"}));
  EXPECT_EQ(out["num_labels"], 1);
  EXPECT_EQ(out["id2label"], (Json{{"0", "LABEL_0"}}));
}

TEST(Model, AProcessRewardModelIsATokenClassifierWithTwo) {
  const Json out = Json::parse(arch::export_config_json(parse_model_config(llama().dump(), "c"),
                                                        {.dtype = "float32", .head = Head::kTokenClass}));
  EXPECT_EQ(out["architectures"], Json::array({"LlamaForTokenClassification"}));
  EXPECT_EQ(out["num_labels"], 2);
  EXPECT_EQ(out["id2label"], (Json{{"0", "LABEL_0"}, {"1", "LABEL_1"}}));
}

TEST(Model, AnExportSaysWhetherTheEmbeddingIsTheHead) {
  arch::Model model = parse_model_config(with("tie_word_embeddings", true).dump(), "c");
  EXPECT_EQ(Json::parse(export_config_json(model, {.dtype = "float32"}))["tie_word_embeddings"], true);
  model.tie_word_embeddings = false;  // the weights knew better
  EXPECT_EQ(Json::parse(export_config_json(model, {.dtype = "float32"}))["tie_word_embeddings"], false);
  Json silent = llama();
  silent.erase("tie_word_embeddings");
  model = parse_model_config(silent.dump(), "c");
  EXPECT_FALSE(Json::parse(export_config_json(model, {.dtype = "float32"})).contains("tie_word_embeddings"));
  model.tie_word_embeddings = true;
  EXPECT_EQ(Json::parse(export_config_json(model, {.dtype = "float32"}))["tie_word_embeddings"], true);
}

TEST(Model, APadTokenIsOneOfTheVocabulary) {
  const auto pad_in = [](const Json& json) { return arch::pad_token_id(parse_model_config(json.dump(), "c")); };
  EXPECT_EQ(pad_in(with("pad_token_id", 3)), 3);
  for (const Json& none : {Json(nullptr), Json(-1), Json(1 << 20), Json("<pad>")})
    EXPECT_EQ(pad_in(with("pad_token_id", none)), std::nullopt) << none;
  EXPECT_EQ(arch::pad_token_id(arch::preset_config("tiny")), 257);
  const arch::Model model = parse_model_config(with("pad_token_id", 3).dump(), "c");
  EXPECT_EQ(Json::parse(export_config_json(model, {.dtype = "float32"}))["pad_token_id"], 3);
  EXPECT_EQ(Json::parse(export_config_json(model, {.dtype = "float32", .pad_token_id = 5}))["pad_token_id"], 5);
}

TEST(Model, WhatTwoModelsComputeDifferentlyIsNamed) {
  const arch::Model model = parse_model_config(llama().dump(), "c");
  EXPECT_EQ(arch::difference(model, model), "");
  const auto against = [&](const char* field, const Json& value) {
    return arch::difference(model, parse_model_config(with(field, value).dump(), "c"));
  };
  EXPECT_EQ(against("tie_word_embeddings", !model.tie_word_embeddings), "") << "each has weights of its own";
  EXPECT_EQ(against("initializer_range", 0.5), "");
  EXPECT_EQ(against("vocab_size", 7), text("vocab_size ", model.vocab_size, " against 7"));
  for (const char* field : {"num_hidden_layers", "intermediate_size"})
    EXPECT_EQ(against(field, 9).substr(0, std::string(field).size()), field);
  EXPECT_EQ(against("rope_theta", 7.0).substr(0, 10), "rope_theta");
  EXPECT_EQ(against("rms_norm_eps", 0.5).substr(0, 12), "rms_norm_eps");
  EXPECT_NE(against("attention_bias", true), "");
  EXPECT_NE(
      arch::difference(arch::model_of_shape("qwen2", model.shape()), arch::model_of_shape("qwen3", model.shape())), "");
}

TEST(Model, APresetsExportParsesBackToItself) {
  const arch::Model tiny = arch::preset_config("tiny");
  const arch::Model back = parse_model_config(arch::export_config_json(tiny, {.dtype = "float32"}), "c");
  EXPECT_EQ(back.hidden_size, tiny.hidden_size);
  EXPECT_EQ(back.vocab_size, tiny.vocab_size);
  EXPECT_EQ(back.shape().kv_heads, tiny.shape().kv_heads);
  EXPECT_EQ(back.shape().head_dim, tiny.shape().head_dim);
  EXPECT_EQ(back.norm_eps, tiny.norm_eps);
  EXPECT_EQ(back.layers.back().norm_eps, tiny.layers.back().norm_eps);
  EXPECT_EQ(back.max_position_embeddings, tiny.max_position_embeddings);
  EXPECT_GE(tiny.vocab_size, 257);
  test::expect_words(test::error_of<ConfigError>([] { arch::preset_config("huge"); }), {"tiny"});
}

}  // namespace
}  // namespace fpdist::arch
