// What PEFT computes from the adapters of tests/golden (make_adapter_golden.py).

#include <gtest/gtest.h>

#include <filesystem>

#include "fpdist/checkpoint/hf_directory.hpp"
#include "src/arch/adapter_json.hpp"
#include "tests/model/export_logits.hpp"
#include "tests/model/golden_pack.hpp"
#include "tests/support/laws/relative_error.hpp"

namespace fpdist::model {
namespace {

using checkpoint::HfDirectory;

class AdapterGolden : public testing::TestWithParam<const char*> {
 protected:
  static std::string golden(const std::string& what) {
    return std::string(FPDIST_SOURCE_DIR) + "/tests/golden/" + what + "_" + GetParam();
  }
  Transformer load_model(bool checkpointing = false) const {
    const HfDirectory base(golden("model")), adapter = HfDirectory::of_adapter(golden("adapter"));
    arch::Model config = arch::parse_model_config(base.config_json(), base.config_path());
    config.adapter = arch::adapter_of(config, Head::kLanguageModel,
                                      arch::parse_adapter_config(adapter.config_json(), adapter.config_path()));
    auto model = test::make_model(config, at::kDouble, Head::kLanguageModel, /*trainable=*/true, checkpointing);
    for (const auto& parameter : model.parameters())
      if (!arch::is_of_adapter(parameter->name)) base.read_into(parameter->name, parameter->value);
    model.begin_magnitudes();
    for (const auto& parameter : model.trained()) adapter.read_into(parameter->name, parameter->value);
    return model;
  }
  checkpoint::SafetensorsFile expected_{golden("adapter") + "/expected.safetensors"};
};

TEST_P(AdapterGolden, LogitsEqualPeft) {
  auto model = load_model();
  const auto layout = test::layout_of(test::golden_samples(expected_), /*share=*/true);
  const at::NoGradGuard no_grad;
  const at::Tensor logits = model.logits(model.forward(0, parallel::make_pack_tensors(layout).slice[0].rows, {}));
  for (size_t s = 0; s < 2; ++s)
    EXPECT_LT(test::relative_error(logits.index_select(0, test::rows_of_sample(layout, s)),
                                   expected_.tensor("logits64." + std::to_string(s)), 0.0),
              1e-10);
}

TEST_P(AdapterGolden, GradientsEqualPeftAndNothingElseIsTrained) {
  for (const bool checkpointing : {false, true}) {
    auto model = load_model(checkpointing);
    test::golden_backward(model, test::layout_of(test::golden_samples(expected_), /*share=*/true));
    size_t trained = 0, known = 0;
    for (const auto& parameter : model.parameters()) {
      EXPECT_EQ(parameter->main_grad.defined(), arch::is_of_adapter(parameter->name)) << parameter->name;
      EXPECT_FALSE(parameter->value.grad().defined()) << parameter->name;
      if (!parameter->main_grad.defined()) continue;
      ++trained;
      EXPECT_LT(
          test::relative_error(parameter->main_grad, expected_.tensor("grad.base_model.model." + parameter->name), 0.0),
          1e-10)
          << parameter->name;
    }
    for (const auto& [name, info] : expected_.tensors()) known += name.starts_with("grad.") ? 1 : 0;
    EXPECT_EQ(trained, known);
    EXPECT_EQ(trained, model.trained().size());
  }
}

TEST_P(AdapterGolden, FrozenCopiesShareWhatIsFrozen) {
  auto model = load_model();
  const auto layout = test::layout_of(test::golden_samples(expected_), /*share=*/true);
  const auto rows = parallel::make_pack_tensors(layout).slice[0].rows;
  const at::NoGradGuard no_grad;
  const auto with = model.frozen(true), without = model.frozen(false);
  EXPECT_TRUE(at::equal(with->forward(0, rows, {}), model.forward(0, rows, {})));
  const HfDirectory base(golden("model"));
  auto plain = test::make_model(arch::parse_model_config(base.config_json(), base.config_path()), at::kDouble);
  test::load(plain, base);
  EXPECT_TRUE(at::equal(without->forward(0, rows, {}), plain.forward(0, rows, {})));
  EXPECT_EQ(without->parameters().size(), plain.parameters().size());
  for (const auto& parameter : model.parameters())
    for (const auto* other : {with.get(), without.get()})
      for (const auto& same : other->parameters()) {
        if (same->name != parameter->name) continue;
        EXPECT_EQ(same->value.data_ptr() == parameter->value.data_ptr(), !parameter->main_grad.defined());
      }
}

/// The directories stay in the build folder, each with our logits beside, for tests/golden/check_adapter.py.
TEST_P(AdapterGolden, ComesBackBitForBitFromADirectory) {
  const std::string scratch = std::string(FPDIST_BINARY_DIR) + "/adapter_export";
  std::filesystem::create_directories(scratch);
  const HfDirectory base(golden("model"));
  for (const Head head : {Head::kLanguageModel, Head::kScore}) {
    arch::AdapterOptions options;
    options.type = "lora", options.target_modules = {"all-linear"}, options.r = 3;
    options.use_dora = std::string(GetParam()) == "llama_linear";
    options.init_lora_weights = "false", options.rank_pattern = {{"layers.1.mlp.up_proj", "5"}};
    arch::Model config = arch::parse_model_config(base.config_json(), base.config_path());
    config.adapter = arch::adapter_of(config, head, options);
    auto model = test::make_model(config, at::kDouble, head);
    model.initialize(9);
    for (const auto& parameter : model.parameters())
      if (!parameter->main_grad.defined()) base.read_into(parameter->name, parameter->value);
    model.begin_magnitudes();
    checkpoint::NamedTensors tensors;
    for (const auto& parameter : model.trained()) tensors.emplace_back(parameter->name, parameter->value.detach());
    const std::string folder = scratch + "/" + GetParam() + (head == Head::kScore ? "-score" : "");
    checkpoint::export_hf_directory(
        folder, tensors,
        {.config_json = {}, .adapter_json = arch::adapter_config_json(config, head, options, golden("model"))});
    test::write_logits(model, head, folder);
    const HfDirectory back = HfDirectory::of_adapter(folder);
    EXPECT_EQ(back.names().size(), tensors.size());
    for (const auto& [name, value] : tensors) {
      at::Tensor read = at::empty_like(value);
      back.read_into(name, read);
      EXPECT_TRUE(at::equal(read, value)) << name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, AdapterGolden, testing::Values("llama", "llama_linear", "qwen2", "qwen3"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace fpdist::model
