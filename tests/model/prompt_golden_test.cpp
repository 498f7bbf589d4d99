// What PEFT computes from the trained embeddings of virtual tokens in tests/golden (make_prefix_golden.py).

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "fpdist/checkpoint/hf_directory.hpp"
#include "src/arch/adapter_json.hpp"
#include "src/checkpoint/prefix_file.hpp"
#include "src/data/virtual_tokens.hpp"
#include "tests/model/export_logits.hpp"
#include "tests/model/golden_pack.hpp"
#include "tests/support/laws/relative_error.hpp"

namespace fpdist::model {
namespace {

using checkpoint::HfDirectory;

class PromptGolden : public testing::TestWithParam<const char*> {
 protected:
  static std::string golden(const std::string& what) {
    return std::string(FPDIST_SOURCE_DIR) + "/tests/golden/" + what + "_" + GetParam();
  }
  PromptGolden() {
    const HfDirectory base(golden("model")), prompt = HfDirectory::of_adapter(golden("prompt"));
    config_ = arch::parse_model_config(base.config_json(), base.config_path());
    config_.adapter = arch::adapter_of(config_, Head::kLanguageModel,
                                       arch::parse_adapter_config(prompt.config_json(), prompt.config_path()));
    checkpoint::check_is_prefix_of(config_, prompt);
    model_ = std::make_unique<Transformer>(test::make_model(config_, at::kDouble));
    for (const auto& parameter : model_->parameters())
      if (arch::is_of_prefix(parameter->name))
        checkpoint::read_prefix_into(config_, prompt, parameter->name, 0, parameter->value);
      else
        base.read_into(parameter->name, parameter->value);
  }
  int64_t tokens() const { return config_.adapter.prefix.tokens; }
  std::vector<data::Sample> samples() const {
    const data::Group group{.sample = test::golden_samples(expected_), .margin = std::nullopt};
    return data::behind({.first_id = static_cast<int32_t>(config_.vocab_size), .count = tokens()}, {&group, 1}, 0)
        .front()
        .sample;
  }
  checkpoint::SafetensorsFile expected_{golden("prompt") + "/expected.safetensors"};
  arch::Model config_;
  std::unique_ptr<Transformer> model_;
};

TEST_P(PromptGolden, LogitsEqualPeftAndItsRowsAreComputedOnce) {
  const auto layout = test::layout_of(samples(), /*share=*/true);
  EXPECT_EQ(std::count(layout.token.begin(), layout.token.end(), config_.vocab_size), 1);
  const at::NoGradGuard no_grad;
  const at::Tensor logits = model_->logits(model_->forward(0, parallel::make_pack_tensors(layout).slice[0].rows, {}));
  for (size_t s = 0; s < 2; ++s)
    EXPECT_LT(test::relative_error(logits.index_select(0, test::rows_of_sample(layout, s)).slice(0, tokens()),
                                   expected_.tensor("logits64." + std::to_string(s)), 0.0),
              1e-10);
}

TEST_P(PromptGolden, GradientsEqualPeftAndNothingElseIsTrained) {
  for (const bool share : {false, true}) {
    const auto layout = test::layout_of(samples(), share);
    const auto [slices, places] = parallel::make_pack_tensors(layout);
    std::vector<double> weights;
    for (int64_t e = 0; e < layout.edges(); ++e)
      weights.push_back((layout.edge_sample[e] + 1.0) / (static_cast<double>(layout.edge_index[e] - tokens()) + 1.0));
    const at::Tensor hidden = model_->forward(0, slices[0].rows, {});
    const at::Tensor logp = model_->logprobs(hidden, slices[0].head).logp.index_select(0, places.edge_score);
    (logp * at::tensor(weights, at::kDouble)).sum().backward();
    model_->backward_input(0, hidden.grad());
    ASSERT_EQ(model_->trained().size(), 1);
    at::Tensor& gradient = model_->trained().front()->main_grad;
    EXPECT_LT(test::relative_error(gradient, expected_.tensor("grad.prompt_embeddings"), 0.0), 1e-10);
    gradient.zero_();
  }
}

/// The directories stay in the build folder, each with our logits beside, for tests/golden/check_adapter.py.
TEST_P(PromptGolden, ComesBackBitForBitFromADirectory) {
  const std::string folder = std::string(FPDIST_BINARY_DIR) + "/adapter_export/prompt-" + GetParam();
  std::filesystem::create_directories(folder);
  arch::AdapterOptions options;
  options.type = "prompt_tuning", options.num_virtual_tokens = tokens();
  const at::Tensor value = model_->trained().front()->value.detach();
  checkpoint::export_hf_directory(
      folder, {{arch::kPromptWeight, value}},
      {.config_json = {},
       .adapter_json = arch::adapter_config_json(config_, Head::kLanguageModel, options, golden("model"))});
  test::write_logits(*model_, Head::kLanguageModel, folder, tokens());
  const HfDirectory back = HfDirectory::of_adapter(folder);
  EXPECT_EQ(back.names(), std::vector<std::string>{"prompt_embeddings"});
  EXPECT_EQ(arch::parse_adapter_config(back.config_json(), back.config_path()).type, "prompt_tuning");
  at::Tensor read = at::empty_like(value);
  checkpoint::read_prefix_into(config_, back, arch::kPromptWeight, 0, read);
  EXPECT_TRUE(at::equal(read, value));
}

INSTANTIATE_TEST_SUITE_P(Families, PromptGolden, testing::Values("llama", "qwen3"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace fpdist::model
