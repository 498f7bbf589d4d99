// What PEFT computes from the trained prefixes of tests/golden (make_prefix_golden.py).

#include <gtest/gtest.h>

#include <filesystem>

#include "fpdist/checkpoint/hf_directory.hpp"
#include "src/arch/adapter_json.hpp"
#include "src/checkpoint/prefix_file.hpp"
#include "tests/model/export_logits.hpp"
#include "tests/model/golden_pack.hpp"
#include "tests/support/laws/relative_error.hpp"

namespace fpdist::model {
namespace {

using checkpoint::HfDirectory;

struct Prefixed {
  const char *kind, *family;
  arch::AdapterOptions options;  ///< of another one that is written
};

class PrefixGolden : public testing::TestWithParam<Prefixed> {
 protected:
  /// The model's directory, or that of the prefix.
  static std::string golden(const std::string& what) {
    return std::string(FPDIST_SOURCE_DIR) + "/tests/golden/" + (what == "model" ? what : GetParam().kind) + "_" +
           GetParam().family;
  }
  static arch::Model config_of(const HfDirectory& base, const HfDirectory& prefix) {
    arch::Model config = arch::parse_model_config(base.config_json(), base.config_path());
    config.adapter = arch::adapter_of(config, Head::kLanguageModel,
                                      arch::parse_adapter_config(prefix.config_json(), prefix.config_path()));
    return config;
  }
  static Transformer load_model(bool checkpointing = false) {
    const HfDirectory base(golden("model")), prefix = HfDirectory::of_adapter(golden("prefix"));
    const arch::Model config = config_of(base, prefix);
    checkpoint::check_is_prefix_of(config, prefix);
    auto model = test::make_model(config, at::kDouble, Head::kLanguageModel, /*trainable=*/true, checkpointing);
    for (const auto& parameter : model.parameters())
      if (arch::is_of_prefix(parameter->name))
        checkpoint::read_prefix_into(config, prefix, parameter->name, 0, parameter->value);
      else
        base.read_into(parameter->name, parameter->value);
    return model;
  }
  at::Tensor logits(const Transformer& model, const parallel::RowsHere& rows) const {
    const at::NoGradGuard no_grad;
    return model.logits(const_cast<Transformer&>(model).forward(0, rows, {}));
  }
  checkpoint::SafetensorsFile expected_{golden("prefix") + "/expected.safetensors"};
};

TEST_P(PrefixGolden, LogitsEqualPeft) {
  const auto model = load_model();
  for (const bool share : {false, true}) {
    const auto layout = test::layout_of(test::golden_samples(expected_), share);
    const at::Tensor got = logits(model, parallel::make_pack_tensors(layout).slice[0].rows);
    for (size_t s = 0; s < 2; ++s)
      EXPECT_LT(test::relative_error(got.index_select(0, test::rows_of_sample(layout, s)),
                                     expected_.tensor("logits64." + std::to_string(s)), 0.0),
                1e-10);
  }
}

TEST_P(PrefixGolden, GradientsEqualPeftAndNothingElseIsTrained) {
  const at::Tensor expected = expected_.tensor("grad.prompt_embeddings");
  for (const bool checkpointing : {false, true})
    for (const bool share : {false, true}) {
      auto model = load_model(checkpointing);
      test::golden_backward(model, test::layout_of(test::golden_samples(expected_), share));
      EXPECT_EQ(model.trained().size(), arch::prefix_parameters(model.config()).size());
      for (const auto& parameter : model.parameters()) {
        EXPECT_EQ(parameter->main_grad.defined(), arch::is_of_prefix(parameter->name)) << parameter->name;
        if (!parameter->main_grad.defined()) continue;
        const int64_t column = arch::prefix_column(model.config(), parameter->name);
        EXPECT_LT(
            test::relative_error(parameter->main_grad, expected.narrow(1, column, parameter->main_grad.size(1)), 0.0),
            1e-10)
            << parameter->name;
      }
    }
}

TEST_P(PrefixGolden, WithoutItTheModelIsTheModelAndZerosAreNotNothing) {
  auto model = load_model();
  const auto rows = parallel::make_pack_tensors(test::layout_of(test::golden_samples(expected_), true)).slice[0].rows;
  const HfDirectory base(golden("model"));
  auto plain = test::make_model(arch::parse_model_config(base.config_json(), base.config_path()), at::kDouble);
  test::load(plain, base);
  EXPECT_TRUE(at::equal(logits(*model.frozen(false), rows), logits(plain, rows)));
  EXPECT_TRUE(at::equal(logits(*model.frozen(true), rows), logits(model, rows)));
  const at::NoGradGuard no_grad;
  for (const auto& parameter : model.trained()) parameter->value.zero_();
  EXPECT_GT(test::relative_error(logits(model, rows), logits(plain, rows), 0.0), 1e-3);
}

/// The keys and values that the model itself makes of a text, ahead of a sample: the sample behind the text.
TEST_P(PrefixGolden, OfATextsKeysIsTheText) {
  const auto with = load_model();
  const auto alone = with.frozen(false);
  const int64_t tokens = with.config().adapter.prefix.tokens;
  const data::Sample sample = test::golden_samples(expected_)[1];
  const std::vector<int32_t> text(sample.token.rbegin(), sample.token.rbegin() + tokens);
  KeptKeys kept = alone->make_kept_keys(tokens);
  kept.row = at::arange(tokens);
  const auto rows = parallel::make_pack_tensors(test::layout_of({test::sample_of(text)}, true)).slice[0].rows;
  (void)alone->extend(rows, kept, {});
  const at::NoGradGuard no_grad;
  for (const auto& parameter : with.trained()) {
    const auto layer = static_cast<size_t>(std::atoi(parameter->name.c_str() + std::string("model.layers.").size()));
    const bool is_keys = parameter->name.ends_with(arch::kPrefixKeys);
    parameter->value.copy_((is_keys ? kept.keys : kept.values)[layer].flatten(1));
  }
  std::vector<int32_t> both = text;
  both.insert(both.end(), sample.token.begin(), sample.token.end());
  const auto rows_of = [](const std::vector<int32_t>& ids) {
    return parallel::make_pack_tensors(test::layout_of({test::sample_of(ids)}, true)).slice[0].rows;
  };
  EXPECT_LT(
      test::relative_error(logits(with, rows_of(sample.token)), logits(*alone, rows_of(both)).slice(0, tokens), 0),
      1e-12);
}

/// The directories stay in the build folder, each with our logits beside, for tests/golden/check_adapter.py.
TEST_P(PrefixGolden, ComesBackBitForBitFromADirectory) {
  const std::string scratch = std::string(FPDIST_BINARY_DIR) + "/adapter_export";
  std::filesystem::create_directories(scratch);
  const HfDirectory base(golden("model"));
  for (const Head head : {Head::kLanguageModel, Head::kScore}) {
    const arch::AdapterOptions& options = GetParam().options;
    arch::Model config = arch::parse_model_config(base.config_json(), base.config_path());
    config.adapter = arch::adapter_of(config, head, options);
    auto model = test::make_model(config, at::kDouble, head);
    model.initialize(9);
    for (const auto& parameter : model.parameters())
      if (parameter->main_grad.defined())
        parameter->value.detach().copy_(parameter->value.detach().to(at::kFloat));  // in which PEFT holds them
      else
        base.read_into(parameter->name, parameter->value);
    checkpoint::NamedTensors tensors;
    for (const auto& parameter : model.trained()) tensors.emplace_back(parameter->name, parameter->value.detach());
    const std::string folder =
        scratch + "/" + GetParam().kind + "-" + GetParam().family + (head == Head::kScore ? "-score" : "");
    checkpoint::export_hf_directory(
        folder, tensors,
        {.config_json = {}, .adapter_json = arch::adapter_config_json(config, head, options, golden("model"))});
    test::write_logits(model, head, folder);
    const HfDirectory back = HfDirectory::of_adapter(folder);
    EXPECT_EQ(back.names().size(), head == Head::kScore ? 2 : 1);
    checkpoint::check_is_prefix_of(config_of(base, back), back);
    for (const auto& [name, value] : tensors) {
      at::Tensor read = at::empty_like(value);
      if (arch::is_of_prefix(name))
        checkpoint::read_prefix_into(config, back, name, 0, read);
      else
        back.read_into(name, read);
      EXPECT_TRUE(at::equal(read, value)) << name;
    }
  }
}

/// What PEFT's encoder calls a weight of ours, and the rows of its tensor that it is.
std::pair<std::string, int64_t> place_in_encoder(const arch::Model& config, const std::string& name) {
  const bool is_bias = name.ends_with(".bias");
  if (name == arch::kPrefixEmbedding) return {"embedding.weight", 0};
  if (name.starts_with(arch::kPrefixHidden)) return {is_bias ? "transform.0.bias" : "transform.0.weight", 0};
  const auto layer = std::atoi(name.c_str() + std::string("model.layers.").size());
  const arch::Attention& attention = config.layers.front().attention;
  const int64_t width = attention.kv_heads * attention.head_dim;
  const bool is_values = name.find(arch::kPrefixValues) != std::string::npos;
  return {is_bias ? "transform.2.bias" : "transform.2.weight", (2 * layer + (is_values ? 1 : 0)) * width};
}

TEST(ProjectedPrefixGolden, LogitsGradientsAndFilesEqualPeft) {
  const std::string golden = std::string(FPDIST_SOURCE_DIR) + "/tests/golden/";
  const checkpoint::SafetensorsFile expected(golden + "projected_llama/expected.safetensors");
  const HfDirectory base(golden + "model_llama");
  arch::Model config = arch::parse_model_config(base.config_json(), base.config_path());
  arch::AdapterOptions options;
  options.type = "prefix_tuning", options.num_virtual_tokens = 3;
  options.prefix_projection = true, options.encoder_hidden_size = 7;
  config.adapter = arch::adapter_of(config, Head::kLanguageModel, options);
  const auto of_peft = [&](const char* what, const ops::Parameter& parameter) {
    const auto [name, row] = place_in_encoder(config, parameter.name);
    return expected.tensor(what + name).narrow(0, row, parameter.value.size(0));
  };
  for (const bool checkpointing : {false, true}) {
    auto model = test::make_model(config, at::kDouble, Head::kLanguageModel, /*trainable=*/true, checkpointing);
    for (const auto& parameter : model.parameters())
      if (parameter->main_grad.defined())
        parameter->value.detach().copy_(of_peft("weight.", *parameter));
      else
        base.read_into(parameter->name, parameter->value);
    const auto layout = test::layout_of(test::golden_samples(expected), /*share=*/true);
    {
      const at::NoGradGuard no_grad;
      const at::Tensor logits = model.logits(model.forward(0, parallel::make_pack_tensors(layout).slice[0].rows, {}));
      for (size_t s = 0; s < 2; ++s)
        EXPECT_LT(test::relative_error(logits.index_select(0, test::rows_of_sample(layout, s)),
                                       expected.tensor("logits64." + std::to_string(s)), 0.0),
                  1e-10);
    }
    test::golden_backward(model, layout);
    EXPECT_EQ(model.trained().size(), 3 + 4 * config.layers.size());
    for (const auto& parameter : model.trained())
      EXPECT_LT(test::relative_error(parameter->main_grad, of_peft("grad.", *parameter), 0.0), 1e-10)
          << parameter->name;
    checkpoint::NamedTensors tensors;
    for (const auto& [name, shape] : arch::trained_parameters(config, Head::kLanguageModel))
      for (const auto& parameter : model.trained())
        if (parameter->name == name) tensors.emplace_back(name, parameter->value.detach());
    const std::string folder = std::string(FPDIST_BINARY_DIR) + "/adapter_export/projected-llama";
    checkpoint::export_hf_directory(
        folder, tensors,
        {.config_json = {},
         .adapter_json = arch::adapter_config_json(config, Head::kLanguageModel, options, golden + "model_llama")});
    test::write_logits(model, Head::kLanguageModel, folder);
    const HfDirectory back = HfDirectory::of_adapter(folder);
    EXPECT_LT(test::relative_error(back.file_with("prompt_embeddings").tensor("prompt_embeddings"),
                                   expected.tensor("prompt_embeddings"), 0.0),
              1e-13);
  }
}

const arch::AdapterOptions kPrefix{.type = "prefix_tuning", .num_virtual_tokens = 4},
    kCartridge{.type = "cartridge", .num_virtual_tokens = 4};

INSTANTIATE_TEST_SUITE_P(Families, PrefixGolden,
                         testing::Values(Prefixed{"prefix", "llama", kPrefix}, Prefixed{"prefix", "qwen2", kPrefix},
                                         Prefixed{"prefix", "qwen3", kPrefix},
                                         Prefixed{"cartridge", "qwen3", kCartridge}),
                         [](const auto& info) { return std::string(info.param.kind) + "_" + info.param.family; });

}  // namespace
}  // namespace fpdist::model
