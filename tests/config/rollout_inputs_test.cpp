// Runs that make their own rollouts, as far as they can be refused without weights: --plan says what the run would.
#include "src/config/rollout_inputs.hpp"

#include <gtest/gtest.h>

#include "src/config/describe_plan.hpp"
#include "src/config/planned_rollouts.hpp"
#include "src/generate/kv_profile.hpp"
#include "tests/support/files/scratch.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::config {
namespace {

using test::error_of, test::expect_words;

class OnlinePlan : public ::testing::Test {
 protected:
  OnlinePlan() {
    config_.method = Method::kGrpo;
    config_.model.preset = "tiny", config_.model.device = "cpu";
    config_.rollout.prompts = {prompts("train.jsonl", {3, 5, 9, 4})};
    config_.data.eval_path = {prompts("held_out.jsonl", {7, 30})};
    config_.rollout.num_generations = 2, config_.rollout.max_completion_length = 10;
    config_.train.groups_per_step = 2, config_.train.max_steps = 2;
    config_.reward.functions = {"exact"};
  }
  /// A file of prompts of so many tokens.
  std::string prompts(const std::string& name, const std::vector<int64_t>& lengths) const {
    std::string lines;
    for (const int64_t length : lengths) {
      lines += R"({"prompt_ids": [1)";
      for (int64_t t = 1; t < length; ++t) lines += text(", ", 1 + t % 7);
      lines += "]}\n";
    }
    test::spill(scratch_ / name, lines);
    return scratch_ / name;
  }
  std::string plan(int ranks = 1) {
    NullLog log;
    return describe_plan(config_, ranks, log, [&](arch::Model& model) { change_model_(model); });
  }

  const test::Scratch scratch_;
  Config config_;
  std::function<void(arch::Model&)> change_model_ = [](arch::Model&) {};
};

TEST_F(OnlinePlan, SaysWhatIsEvaluated) {
  config_.eval.num_generations = 4, config_.eval.max_completion_length = 20;
  expect_words(plan(), {"evaluation         2 prompts, 4 completions of each, of 20 tokens at most\n",
                        "(8 completions of 20 tokens behind 30 rows of prompts;"});  // more than the rollouts'
  config_.eval.kv_budget = 0.25;
  expect_words(plan(), {"of 20 tokens at most; layers keep 25.0 % of the keys\n"});
}

TEST_F(OnlinePlan, RefusesPromptsThatTheModelHasNoPositionsFor) {
  change_model_ = [](arch::Model& model) { model.max_position_embeddings = 39; };
  expect_words(error_of<DataError>([&] { plan(); }),
               {"data.eval_path: prompt 2 has 30 tokens; with rollout.max_completion_length 10 more it is of 40, and "
                "the model has positions for 39 (max_position_embeddings)"});
  config_.eval.max_completion_length = 9;
  EXPECT_NO_THROW(plan());
  config_.rollout.max_completion_length = 31;
  expect_words(error_of<DataError>([&] { plan(); }),
               {"rollout.prompts: prompt 3 has 9 tokens; with ", "positions for 39"});
  // A linear scaling stretches them, as for samples that are read.
  change_model_ = [](arch::Model& model) {
    model.max_position_embeddings = 20;
    model.layers[0].attention.rope = {.type = arch::RopeConfig::Type::kLinear, .factor = 2};
  };
  EXPECT_NO_THROW(plan());
}

TEST_F(OnlinePlan, RefusesWhatCannotBeGenerated) {
  const auto refusal = [&](auto change) {
    const Config before = config_;
    change(config_);
    const std::string words = error_of<ConfigError>([&] { plan(); });
    config_ = before;
    return words;
  };
  expect_words(refusal([](Config& c) { c.rollout.stop_token_ids = {9999}; }),
               {"rollout.stop_token_ids: 9999 is no token"});
  expect_words(
      refusal([](Config& c) { c.rollout.kv_gib = 1e-6; }),
      {"rollout.prompts: prompt 1 with its 2 completions of up to 10 tokens needs 39 rows", "kv_gib 1e-06 holds "});
  expect_words(refusal([](Config& c) { c.eval.kv_budget = 0.5, c.model.device = "cuda"; }),
               {"eval.kv_budget is there on the CPU only"});
  expect_words(refusal([](Config& c) { c.flex_prefill.gamma = 0.5, c.model.device = "cuda"; }),
               {"flex_prefill.gamma is there on the CPU only"});
  expect_words(refusal([](Config& c) { c.rollout.batch_invariant = true, c.eval.kv_budget = 0.5; }),
               {"rollout.batch_invariant is for all keys"});
  expect_words(refusal([](Config& c) { c.rollout.batch_invariant = true, c.adapter.type = "lora"; }),
               {"rollout.batch_invariant is for models without adapter"});
  expect_words(refusal([](Config& c) { c.adapter.type = "prompt_tuning", c.adapter.num_virtual_tokens = 3; }),
               {"adapter.type is prompt_tuning", "virtual tokens"});
  expect_words(refusal([](Config& c) { c.pack.max_tokens = 18; }),
               {"the longest prompt has 9 tokens", "pack.max_tokens: 19"});
  test::spill(scratch_ / "held_out.jsonl", R"({"prompt_ids": [1, 99999]})");
  expect_words(error_of<DataError>([&] { plan(); }),
               {"data.eval_path: prompt 1: 99999 is no token of a vocabulary of "});
  config_.data.eval_path = {scratch_ / "none.jsonl"};
  expect_words(error_of<DataError>([&] { plan(); }), {"none.jsonl", "check data.eval_path"});
}

TEST_F(OnlinePlan, ReadsAProfileOfKeys) {
  const arch::Model model = arch::preset_config("tiny");
  config_.eval.kv_profile = scratch_ / "kv.json";
  expect_words(error_of<ModelFileError>([&] { plan(); }), {"kv.json: cannot be opened"});
  test::spill(config_.eval.kv_profile,
              generate::to_kv_profile(model, {.budget = 0.75}, 1, std::vector<double>{0.1, 0.4, 0.2, 0.3}));
  expect_words(plan(), {"layers keep 75.0 % of the keys\n"});
  config_.model.device = "cuda";
  expect_words(error_of<ConfigError>([&] { plan(); }),
               {"eval.kv_profile is there on the CPU only: set eval.kv_profile: \"\" or model.device: cpu"});
}

/// Stages need not have layers alike: the last one has the head besides.
TEST_F(OnlinePlan, CountsKeysOfTheStageThatHasMostLayers) {
  Settled job = settle(config_, 1);
  const int64_t whole = bytes_per_row(job);
  EXPECT_EQ(whole, 2 * 4 * job.model.shape().kv_heads * job.model.shape().head_dim * 4);
  job.config.parallel.pp = 2;
  for (const auto& [layers, most] : std::vector<std::pair<std::vector<int64_t>, int64_t>>{
           {{2, 2}, 2}, {{3, 1}, 3}, {{1, 1, 1, 1}, 2}, {{2, 1, 1, 0}, 3}}) {
    job.config.parallel.layers = layers;
    EXPECT_EQ(bytes_per_row(job), whole / 4 * most);
  }
}

}  // namespace
}  // namespace fpdist::config
