#include "fpdist/model/transformer.hpp"

#include <ATen/core/grad_mode.h>
#include <ATen/record_function.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string_view>

#include "fpdist/comm/world.hpp"
#include "fpdist/core/error.hpp"
#include "src/parallel/tensor/tensor_parallel.hpp"
#include "tests/model/small_model.hpp"
#include "tests/support/laws/relative_error.hpp"

namespace fpdist::model {
namespace {

using test::layout_of, test::make_model, test::randomize, test::relative_error, test::sample_of, test::small_config,
    test::take_gradients;

parallel::SliceTensors some_pack() {
  const std::vector<data::Sample> samples{sample_of({5, 6, 7, 8, 9}), sample_of({5, 6, 7, 1, 2, 3}), sample_of({4, 4})};
  return parallel::make_pack_tensors(layout_of(samples, true)).slice.front();
}

/// Gradients of a loss over two packs that are in flight at the same time.
std::map<std::string, at::Tensor> gradients(Transformer& model) {
  const auto slice = some_pack();
  std::vector<at::Tensor> hidden;
  for (const int pack : {0, 7}) hidden.push_back(model.forward(pack, slice.rows, {}));
  for (const int pack : {7, 0}) {
    const at::Tensor& rows = hidden[pack == 0 ? 0 : 1];
    (model.logprobs(rows, slice.head).logp.sum() * (pack + 1)).backward();
    EXPECT_FALSE(model.backward_input(pack, rows.grad()).defined());
  }
  return take_gradients(model);
}

TEST(Transformer, RecomputationChangesNoBit) {
  for (const auto dtype : {at::kFloat, at::kDouble, at::kBFloat16}) {
    for (const std::string family : {"llama", "qwen2", "qwen3"}) {
      auto plain = make_model(small_config(family), dtype);
      auto recomputed = make_model(small_config(family), dtype, Head::kLanguageModel, true, /*checkpointing=*/true);
      randomize(plain, 5);
      randomize(recomputed, 5);
      const auto slice = some_pack();
      EXPECT_TRUE(at::equal(plain.forward(1, slice.rows, {}), recomputed.forward(1, slice.rows, {})));
      const auto expected = gradients(plain), got = gradients(recomputed);
      for (const auto& [name, gradient] : expected) {
        EXPECT_TRUE(at::equal(got.at(name), gradient)) << name;
        EXPECT_GT(gradient.abs().max().item<double>(), 0.0) << name << " has no gradient";
      }
    }
  }
}

thread_local int additions = 0;  // of this thread while count_additions is on

std::unique_ptr<at::ObserverContext> count_additions(const at::RecordFunction& call) {
  const std::string_view name = call.name();
  additions += name == "aten::add" || name == "aten::add_";
  return nullptr;
}

TEST(Transformer, WithoutASumOverTpTheResidualsAreAddedInsideTheProducts) {
  const auto slice = some_pack();
  for (const int axis : {0, 1, 2}) {  // 0: no axis at all, as in a program of one rank
    comm::run_threads(std::max(1, axis), [&](comm::World& world) {
      Transformer model(small_config("qwen2"),
                        {.dtype = at::kFloat, .tp = axis == 0 ? nullptr : &world.communicator()});
      model.initialize(1);
      auto own = slice.rows;
      own.shard_rows = parallel::split_evenly(slice.rows.shard_rows[0], std::max(1, axis));
      const at::NoGradGuard no_grad;
      additions = 0;
      at::addThreadLocalCallback(at::RecordFunctionCallback(count_additions).scopes({at::RecordScope::FUNCTION}));
      model.forward(0, own, {});
      at::clearThreadLocalCallbacks();
      EXPECT_EQ(additions, axis == 2 ? 2 * 2 : 0) << "ranks of the axis: " << axis << "; 2 layers of 2 residuals";
    });
  }
}

TEST(Transformer, NamesAndOrderAreHuggingFaces) {
  const auto names = [](const arch::Model& config, Head head) {
    auto model = make_model(config, at::kFloat, head);
    std::vector<std::string> names;
    for (const auto& parameter : model.parameters()) names.push_back(parameter->name);
    return names;
  };
  auto config = small_config("qwen3");
  config.layers.resize(1);
  EXPECT_EQ(names(config, Head::kLanguageModel),
            (std::vector<std::string>{
                "model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight",
                "model.layers.0.self_attn.k_proj.weight", "model.layers.0.self_attn.v_proj.weight",
                "model.layers.0.self_attn.o_proj.weight", "model.layers.0.self_attn.q_norm.weight",
                "model.layers.0.self_attn.k_norm.weight", "model.layers.0.mlp.gate_proj.weight",
                "model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.down_proj.weight",
                "model.layers.0.input_layernorm.weight", "model.layers.0.post_attention_layernorm.weight",
                "model.norm.weight", "lm_head.weight"}));
  config.tie_word_embeddings = true;
  EXPECT_EQ(names(config, Head::kLanguageModel).back(), "model.norm.weight");
  EXPECT_EQ(names(config, Head::kScore).back(), kScoreWeight);
}

TEST(Transformer, InitialWeightsDependOnSeedNameAndElementAlone) {
  const arch::Model config = arch::preset_config("tiny");
  auto model = make_model(config, at::kFloat), wide = make_model(config, at::kDouble);
  auto deeper_config = config;
  deeper_config.layers.push_back(config.layers.front());
  auto deeper = make_model(deeper_config, at::kFloat);
  model.initialize(11);
  wide.initialize(11);
  deeper.initialize(11);
  std::map<std::string, at::Tensor> by_name;
  for (const auto& parameter : deeper.parameters()) by_name[parameter->name] = parameter->value;
  for (size_t i = 0; i < model.parameters().size(); ++i) {
    const auto& parameter = *model.parameters()[i];
    EXPECT_TRUE(at::equal(parameter.value, wide.parameters()[i]->value.to(at::kFloat))) << parameter.name;
    EXPECT_TRUE(at::equal(parameter.value, by_name.at(parameter.name))) << parameter.name;
    if (parameter.value.dim() == 1) {
      EXPECT_TRUE(at::equal(parameter.value, at::ones_like(parameter.value)));
      continue;
    }
    const double count = static_cast<double>(parameter.value.numel());
    EXPECT_NEAR(parameter.value.mean().item<double>(), 0.0, 5 * 0.02 / std::sqrt(count)) << parameter.name;
    EXPECT_NEAR(parameter.value.std().item<double>(), 0.02, 5 * 0.02 / std::sqrt(2 * count)) << parameter.name;
    const at::Tensor flat = parameter.value.detach().flatten() / 0.02;  // neighbours are independent
    const double product = (flat.slice(0, 1) * flat.slice(0, 0, -1)).mean().item<double>();
    EXPECT_NEAR(product, 0.0, 5 / std::sqrt(count)) << parameter.name;
  }
  EXPECT_FALSE(at::equal(model.parameters()[1]->value, model.parameters()[4]->value));
  const at::Tensor before = model.parameters()[1]->value.detach().clone();
  model.initialize(12, model.parameters()[1]->name);
  EXPECT_FALSE(at::equal(model.parameters()[1]->value, before));
  EXPECT_THROW(model.initialize(0, "no.such.weight"), ShapeError);
}

TEST(Transformer, AFrozenModelKeepsNothing) {
  auto trained = make_model(small_config("qwen2"), at::kDouble);
  auto frozen = make_model(small_config("qwen2"), at::kDouble, Head::kLanguageModel, /*trainable=*/false);
  trained.initialize(1);
  frozen.initialize(1);
  const auto slice = some_pack();
  const at::Tensor rows = frozen.forward(0, slice.rows, {});
  EXPECT_FALSE(rows.requires_grad());
  EXPECT_TRUE(at::equal(rows, trained.forward(0, slice.rows, {})));
  EXPECT_THROW(frozen.backward_input(0, rows), ShapeError);
  EXPECT_FALSE(frozen.logprobs(rows, slice.head).logp.requires_grad());
  for (const auto& parameter : frozen.parameters()) EXPECT_FALSE(parameter->main_grad.defined());
}

TEST(Transformer, WithoutGradModeNothingIsKept) {
  auto model = make_model(small_config("llama"), at::kFloat);
  model.initialize(1);
  {
    const at::NoGradGuard no_grad;
    EXPECT_FALSE(model.forward(0, some_pack().rows, {}).requires_grad());
  }
  EXPECT_THROW(model.backward_input(0, at::ones({1})), ShapeError);
}

TEST(Transformer, StageMisuseIsNamed) {
  auto model = make_model(small_config("llama"), at::kFloat);
  model.initialize(1);
  const auto slice = some_pack();
  const at::Tensor rows = model.forward(3, slice.rows, {});
  EXPECT_TRUE(rows.requires_grad() && rows.is_leaf());
  EXPECT_THROW(model.forward(3, slice.rows, {}), ShapeError);
  EXPECT_THROW(model.forward(4, slice.rows, rows), ShapeError);
  model.discard(3);
  EXPECT_THROW(model.backward_input(3, rows), ShapeError);
  model.forward(3, slice.rows, {});
  EXPECT_THROW(model.backward_input(3, at::Tensor()), ShapeError);
  EXPECT_THROW(model.scores(rows, slice.head), ShapeError);
}

TEST(Transformer, MeanLogitsAndLogprobsAgreeWithAllLogits) {
  auto model = make_model(small_config("qwen3"), at::kDouble);
  randomize(model, 2);
  const auto slice = some_pack();
  const at::Tensor hidden = model.forward(0, slice.rows, {});
  const at::Tensor logits = model.logits(hidden).index_select(0, slice.head.row);
  EXPECT_LT(relative_error(model.mean_logits(hidden, slice.head, model.mean_head_row()), logits.mean(1), 0.0), 1e-12);
  const auto out = model.logprobs(hidden, slice.head);
  const at::Tensor all = at::log_softmax(logits, 1);
  EXPECT_LT(relative_error(out.logp.detach(), all.index({slice.head.score_row, slice.head.score_target}), 0.0), 1e-12);
  EXPECT_LT(relative_error(out.entropy.detach(), -(all.exp() * all).sum(1), 0.0), 1e-12);
  EXPECT_TRUE(at::equal(out.argmax, logits.argmax(1)));
}

TEST(Transformer, ClassesHaveAHeadOfTheirOwn) {
  auto model = make_model(small_config("llama"), at::kDouble, Head::kTokenClass);
  EXPECT_EQ(model.parameters().back()->name, "score.bias");
  EXPECT_EQ(model.parameters().back()->value.sizes(), at::IntArrayRef({2}));
  model.initialize(3);
  EXPECT_EQ(model.parameters().back()->value.abs().max().item<double>(), 0);
  const auto slice = some_pack();
  const at::Tensor hidden = model.forward(0, slice.rows, {});
  EXPECT_THROW(model.scores(hidden, slice.head), ShapeError);
  EXPECT_THROW(model.logits(hidden), ShapeError);
  EXPECT_THROW(model.mean_head_row(), ShapeError);
}

TEST(Transformer, ScoresReadEachSamplesLastRow) {
  auto model = make_model(small_config("llama"), at::kDouble, Head::kScore);
  randomize(model, 2);
  const auto slice = some_pack();
  const at::Tensor hidden = model.forward(0, slice.rows, {});
  const at::Tensor scores = model.scores(hidden, slice.head);
  const at::Tensor expected = at::mv(hidden.detach(), model.parameters().back()->value.detach().squeeze(0))
                                  .index_select(0, slice.head.last_row);
  EXPECT_LT(relative_error(scores.detach(), expected, 0.0), 1e-12);
  scores.sum().backward();
  model.backward_input(0, hidden.grad());
  for (const auto& [name, gradient] : take_gradients(model))
    EXPECT_GT(gradient.abs().max().item<double>(), 0.0) << name << " has no gradient";
  EXPECT_THROW(model.logprobs(hidden, slice.head), ShapeError);
  EXPECT_THROW(model.mean_head_row(), ShapeError);
  EXPECT_THROW(model.mean_logits(hidden, slice.head, hidden), ShapeError);
  EXPECT_THROW(model.logits(hidden), ShapeError);
  auto empty = slice.head;
  empty.has_empty_sample = true;
  EXPECT_THROW(model.scores(hidden, empty), DataError);
}

}  // namespace
}  // namespace fpdist::model
