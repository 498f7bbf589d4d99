// What Transformers computes from the tiny directories of tests/golden (make_model_golden.py).

#include <gtest/gtest.h>

#include "fpdist/checkpoint/hf_directory.hpp"
#include "src/model/blocks/rotary_table.hpp"
#include "tests/model/golden_pack.hpp"
#include "tests/model/small_model.hpp"
#include "tests/support/laws/relative_error.hpp"

namespace fpdist::model {
namespace {

using test::layout_of, test::load, test::make_model, test::relative_error, test::take_gradients;

class Golden : public testing::TestWithParam<const char*> {
 protected:
  std::string folder() const { return std::string(FPDIST_SOURCE_DIR) + "/tests/golden/model_" + GetParam(); }
  Transformer load_model(at::ScalarType dtype) const {
    const checkpoint::HfDirectory directory(folder());
    auto model = make_model(arch::parse_model_config(directory.config_json(), directory.config_path()), dtype);
    load(model, directory);
    return model;
  }
  std::vector<data::Sample> samples() const { return test::golden_samples(expected_); }
  void expect_logits(at::ScalarType dtype, bool share, const std::string& name, double tolerance) const {
    auto model = load_model(dtype);
    const auto layout = layout_of(samples(), share);
    const at::NoGradGuard no_grad;
    const at::Tensor logits = model.logits(model.forward(0, parallel::make_pack_tensors(layout).slice[0].rows, {}));
    for (size_t s = 0; s < 2; ++s) {
      const at::Tensor expected = expected_.tensor(name + std::to_string(s));
      EXPECT_LT(relative_error(logits.index_select(0, test::rows_of_sample(layout, s)), expected, 0.0), tolerance)
          << name << s;
    }
  }
  checkpoint::SafetensorsFile expected_{folder() + "/expected.safetensors"};
};

TEST_P(Golden, Float32LogitsEqualTransformers) {
  expect_logits(at::kFloat, /*share=*/false, "logits32.", 1e-5);
  expect_logits(at::kFloat, /*share=*/true, "logits32.", 1e-5);
}

TEST_P(Golden, Float64LogitsEqualTransformers) {
  expect_logits(at::kDouble, /*share=*/false, "logits64.", 1e-10);
  expect_logits(at::kDouble, /*share=*/true, "logits64.", 1e-10);
}

TEST_P(Golden, RotaryTablesAreThoseOfTransformers) {
  const checkpoint::HfDirectory directory(folder());
  const arch::Model config = arch::parse_model_config(directory.config_json(), directory.config_path());
  const arch::Attention& attention = config.layers.front().attention;
  const at::Tensor frequency = inverse_frequencies(attention.rope, attention.head_dim, at::kFloat, at::kCPU);
  EXPECT_TRUE(at::equal(frequency, expected_.tensor("inv_freq")));
  const RotaryTable table = rotary_table(frequency, at::tensor({0, 1, 1000, 4000}, at::kLong));
  EXPECT_LT((table.cos - expected_.tensor("cos32")).abs().max().item<double>(), 1e-6);
  EXPECT_LT((table.sin - expected_.tensor("sin32")).abs().max().item<double>(), 1e-6);
}

TEST_P(Golden, Float64GradientsEqualTransformersSharedOrNot) {
  for (const bool share : {false, true}) {
    auto model = load_model(at::kDouble);
    const auto layout = layout_of(samples(), share);
    test::golden_backward(model, layout);
    for (const auto& [name, gradient] : take_gradients(model)) {
      EXPECT_LT(relative_error(gradient, expected_.tensor("grad." + name), 0.0), 1e-10) << name << " shared " << share;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, Golden, testing::Values("llama", "llama_linear", "llama_llama3", "qwen2", "qwen3"),
                         [](const auto& info) { return std::string(info.param); });

/// tests/golden/make_prm_golden.py: transformers' token classification, whose labels stand at their own tokens.
class ProcessReward : public testing::Test {
 protected:
  static std::string golden(const std::string& name) {
    return std::string(FPDIST_SOURCE_DIR) + "/tests/golden/" + name;
  }
  Transformer load_model() const {
    const checkpoint::HfDirectory directory(golden("model_llama"));
    auto model = make_model(arch::parse_model_config(directory.config_json(), directory.config_path()), at::kDouble,
                            Head::kTokenClass);
    for (const auto& parameter : model.parameters())
      if (arch::is_of_score(parameter->name))
        parameter->value.detach().copy_(expected_.tensor(parameter->name));
      else
        directory.read_into(parameter->name, parameter->value);
    return model;
  }
  std::vector<data::Sample> samples() const {
    std::vector<data::Sample> all = test::golden_samples(expected_);
    for (size_t s = 0; s < all.size(); ++s) {
      const at::Tensor labels = expected_.tensor("labels." + std::to_string(s)).to(at::kInt);
      all[s].token.push_back(0);  // a label at the last token is a target behind it
      all[s].target = {data::kIgnore};
      all[s].target.insert(all[s].target.end(), labels.const_data_ptr<int32_t>(),
                           labels.const_data_ptr<int32_t>() + labels.numel());
    }
    return all;
  }
  checkpoint::SafetensorsFile expected_{golden("prm_llama.safetensors")};
};

TEST_F(ProcessReward, IsTransformersTokenClassification) {
  for (const bool share : {true, false}) {
    SCOPED_TRACE(share);
    auto model = load_model();
    const auto of = samples();
    const auto layout = layout_of(of, share);
    const auto [slices, places] = parallel::make_pack_tensors(layout);
    const at::Tensor hidden = model.forward(0, slices[0].rows, {});
    const auto classes = model.logprobs(hidden, slices[0].head);
    const at::Tensor logp = classes.logp.index_select(0, places.edge_score);
    for (int64_t e = 0; e < layout.edges(); ++e) {
      const auto edge = static_cast<size_t>(e);
      const at::Tensor logits =
          expected_.tensor("logits." + std::to_string(layout.edge_sample[edge]))[layout.edge_index[edge] - 1];
      const int32_t label =
          of[static_cast<size_t>(layout.edge_sample[edge])].target[static_cast<size_t>(layout.edge_index[edge])];
      EXPECT_NEAR(logp[e].item<double>(), at::log_softmax(logits, 0)[label].item<double>(), 1e-12);
      const int64_t row = slices[0].head.score_row[layout.edge_score[edge]].item<int64_t>();
      EXPECT_EQ(classes.argmax[row].item<int64_t>(), logits.argmax().item<int64_t>());
      EXPECT_NEAR(classes.entropy[row].item<double>(),
                  -(at::softmax(logits, 0) * at::log_softmax(logits, 0)).sum().item<double>(), 1e-12);
    }
    const at::Tensor loss = -logp.mean();
    EXPECT_NEAR(loss.item<double>(), expected_.tensor("loss").item<double>(), 1e-12);
    loss.backward();
    model.backward_input(0, hidden.grad());
    const auto gradients = take_gradients(model);
    size_t held = 0;
    for (const auto& [name, info] : expected_.tensors()) {
      if (!name.starts_with("grad.")) continue;
      ++held;
      EXPECT_LT(relative_error(gradients.at(name.substr(5)), expected_.tensor(name), 0.0), 1e-10) << name;
    }
    EXPECT_EQ(held, 4U);
  }
}

}  // namespace
}  // namespace fpdist::model
