// Runs that make their own rollouts: the same on any ranks that generate, whole again after a stop anywhere in a round,
// and nothing else than the same rollouts read from a file.
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "fpdist/arch/model.hpp"
#include "fpdist/data/reader.hpp"
#include "src/config/describe_plan.hpp"
#include "src/generate/kv_profile.hpp"
#include "tests/support/ranks/error_on_ranks.hpp"
#include "tests/trainer/samples/rollout_runs.hpp"

namespace fpdist::trainer {
namespace {

namespace fs = std::filesystem;
using test::error_of, test::expect_words, test::RolloutRun;
using Json = nlohmann::json;

TEST_F(RolloutRun, MetricsHaveTrlsNamesAndCompletionsAreWritten) {
  const Config config = in("out", config_);
  run(config, 1);
  expect_words(said(), {"6 prompts, 3 completions of each, 2 prompts a round, 3 steps an epoch"});
  const auto steps = metrics(config);
  ASSERT_EQ(steps.size(), 5U);
  for (const char* name :
       {"reward", "reward_std", "frac_reward_zero_std", "rewards/regex/mean", "rewards/regex/std",
        "rewards/length/mean", "completions/mean_length", "completions/min_length", "completions/max_length",
        "completions/clipped_ratio", "completions/mean_terminated_length", "entropy", "clip_ratio/region_mean"})
    EXPECT_TRUE(steps[0].contains(name)) << name;
  EXPECT_FALSE(steps[0].contains("rollout/truncated_mass"));
  // Alone each completion computes its prompt, of 4 or 5 tokens, and itself.
  EXPECT_GT(steps[0]["rollout/sharing_ratio"].get<double>(), 1.2);
  EXPECT_LT(steps[0]["rollout/sharing_ratio"].get<double>(), 2);
  EXPECT_GT(steps[0]["rollout/kv_gib"].get<double>(), 0);
  const std::vector<Json> first = rows(config.train.output_dir + "/completions/step-1.jsonl");
  ASSERT_EQ(first.size(), 6U);
  double sum = 0, regex = 0;
  for (const Json& row : first) {
    EXPECT_EQ(row["step"], 1);
    EXPECT_NEAR(row["reward"].get<double>(), row["regex"].get<double>() + 0.25 * row["length"].get<double>(), 1e-12);
    EXPECT_EQ(row["regex"] == 1,
              row["completion"].get<std::string>().find_first_of("abcdefghijklmnopqrstuvwxyz") != std::string::npos);
    sum += row["reward"].get<double>(), regex += row["regex"].get<double>();
  }
  EXPECT_NEAR(steps[0]["reward"].get<double>(), sum / 6, 1e-12);
  EXPECT_NEAR(steps[0]["rewards/regex/mean"].get<double>(), regex / 6, 1e-12);
  EXPECT_NE(sampled(config)[0], sampled(config)[3]) << "a prompt that comes again gets other draws";
}

TEST_F(RolloutRun, AnyRanksThatGenerateSampleTheSame) {
  config_ = with_hybrids(config_, 6, 1);
  config_.loss.beta = 0.1;  // a reference too
  config_.rollout.temperature = 0.8;
  config_.rollout.steps_per_generation = 2, config_.rollout.num_iterations = 2;
  const Config one = in("one", config_);
  run(one, 1);
  ASSERT_EQ(sampled(one).size(), 2U);
  EXPECT_GT(metrics(one)[4]["kl"].get<double>(), 0);
  for (const auto& [name, mesh] : std::map<std::string, MeshShape>{
           {"dp3", {.dp = 3}}, {"cp2tp2", {.dp = 1, .cp = 2, .tp = 2}}, {"pp2", {.dp = 1, .pp = 2}}}) {
    Config other = in(name, config_);
    static_cast<MeshShape&>(other.parallel) = mesh;
    run(other, mesh.size());
    EXPECT_EQ(sampled(other), sampled(one)) << name;
    EXPECT_NEAR(metrics(other)[4]["loss"].get<double>(), metrics(one)[4]["loss"].get<double>(), 1e-9) << name;
  }
}

TEST_F(RolloutRun, ThatStopsAnywhereInARoundGoesOnToTheLastBit) {
  config_ = with_hybrids(config_, 6, 2);
  config_.rollout.steps_per_generation = 2, config_.rollout.num_iterations = 2;  // 4 steps a round
  config_.train.max_steps = 6;
  const Config unbroken = in("unbroken", config_);
  run(unbroken, 2);
  for (const int64_t fails_in : {3, 5}) {
    const Config broken = in(text("broken", fails_in), config_);
    run(broken, 2, fails_in);
    run(broken, 2);
    expect_words(said(), {text("after step ", fails_in - 1)});
    expect_same_bits(unbroken, broken);
    EXPECT_EQ(sampled(unbroken), sampled(broken));
  }
}

TEST_F(RolloutRun, RatiosCompareWithWhatSampled) {
  config_.rollout.temperature = 0.7;
  config_.rollout.old_logps = "recompute";
  config_.loss.epsilon = config_.loss.epsilon_high = 1e-6;
  const Config recomputed = in("recomputed", config_);
  run(recomputed, 1);
  for (const Json& step : metrics(recomputed)) {  // the loss's temperature is the one that sampled
    EXPECT_LT(step["sampling/sampling_logp_difference/max"].get<double>(), 1e-5);
    EXPECT_EQ(step["clip_ratio/region_mean"], 0);
  }
  const Config begun = in("begun", with_hybrids(config_, 6, 1));
  run(begun, 1);
  for (const Json& step : metrics(begun)) EXPECT_LT(step["sampling/sampling_logp_difference/max"].get<double>(), 1e-5);
  config_.rollout.old_logps = "auto";
  const Config automatic = in("automatic", config_);
  run(automatic, 1);
  EXPECT_FALSE(metrics(automatic)[0].contains("sampling/sampling_logp_difference/max"));
  EXPECT_EQ(sampled(automatic), sampled(recomputed));
  config_.rollout.num_iterations = 2;  // ratios leave 1
  const Config twice = in("twice", config_);
  run(twice, 1);
  EXPECT_EQ(sampled(twice)[0], sampled(automatic)[0]);
  EXPECT_GT(metrics(twice)[1]["clip_ratio/region_mean"].get<double>(), 0);
  EXPECT_EQ(sampled(twice).size(), 3U);
}

TEST_F(RolloutRun, IsTheRunOfTheSameRolloutsInAFile) {
  Config config = in("online", config_);
  config.train.max_steps = 1, config.reward.functions.clear(), config.reward.weights.clear();
  std::string lines;
  comm::run_threads(1, [&](comm::World& world) {
    NullLog log;
    Trainer trainer(world, config, log);
    trainer.set_reward("evens", [&](std::span<const rewards::JudgedText> texts) {
      rewards::Values values;
      const data::PromptRow* of = nullptr;
      Json row;
      const auto end_row = [&] { lines += row.empty() ? "" : row.dump() + "\n"; };
      for (const rewards::JudgedText& one : texts) {
        if (one.row != of) end_row(), row = {{"prompt_ids", one.row->token}, {"completions", Json::array()}};
        of = one.row;
        values.push_back(one.token.back() % 2);
        row["completions"].push_back({{"ids", one.token}, {"reward", one.token.back() % 2}});
      }
      end_row();
      return values;
    });
    trainer.train();
  });
  EXPECT_TRUE(metrics(config)[0].contains("rewards/evens/mean"));
  EXPECT_EQ(rows(config.train.output_dir + "/completions/step-1.jsonl").size(), 6U);
  Config offline = in("offline", config);
  offline.rollout.prompts.clear(), offline.data.path = {scratch_ / "rows.jsonl"}, offline.data.shuffle = false;
  test::spill(offline.data.path[0], lines);
  run(offline, 1);
  for (const char* name : {"loss", "grad_norm", "entropy", "reward_std", "completions/mean_length"})
    EXPECT_NEAR(metrics(offline)[0][name].get<double>(), metrics(config)[0][name].get<double>(), 1e-10) << name;
}

TEST_F(RolloutRun, EvaluatesByGenerating) {
  config_.data.eval_path = {prompts(4)};
  config_.train.eval_steps = 2, config_.train.max_steps = 4, config_.train.load_best_model_at_end = true;
  config_.eval = {.num_generations = 4, .temperature = 1, .pass_at = {1, 4}, .max_completion_length = 3};
  const Config config = in("out", config_), plain = in("plain", [&] {
                                              Config without = config_;
                                              without.data.eval_path.clear(),
                                                  without.train.eval_steps = 0,
                                                  without.train.load_best_model_at_end = false;
                                              return without;
                                            }());
  run(config, 2);
  std::vector<Json> evaluations, steps;
  for (const Json& row : metrics(config)) (row.contains("eval_reward") ? evaluations : steps).push_back(row);
  ASSERT_EQ(evaluations.size(), 2U);
  for (const Json& row : evaluations) {
    EXPECT_NEAR(row["eval_pass@1"].get<double>(), row["eval_accuracy"].get<double>(), 1e-12);
    EXPECT_NEAR(row["eval_rewards/regex/mean"].get<double>(), row["eval_accuracy"].get<double>(), 1e-12);
    EXPECT_GE(row["eval_accuracy_stderr"].get<double>(), 0);
    EXPECT_GE(row["eval_pass@4"].get<double>(), row["eval_pass@1"].get<double>());
    EXPECT_LE(row["eval_completions/max_length"].get<double>(), 3);
  }
  expect_words(said(), {"the best evaluation: eval_reward"});
  run(plain, 2);
  EXPECT_EQ(metrics(plain), steps) << "an evaluation changes no step";
}

TEST_F(RolloutRun, EvaluationsSayWhatTheyHaveLeftOut) {
  const std::string path = scratch_ / "long.jsonl";
  std::string lines;
  for (int p = 0; p < 4; ++p) {
    Json ids = Json::array();
    for (int t = 0; t < 36 + p; ++t) ids.push_back((t * t + p * 5) % 23);
    lines += Json{{"prompt_ids", ids}}.dump() + "\n";
  }
  test::spill(path, lines);
  config_.data.eval_path = {path}, config_.train.max_steps = 1;
  config_.train.metric_for_best_model = "eval_flex_prefill/kept_share";
  config_.flex_prefill = {
      .gamma = 0.5, .min_budget = 4, .block_size = 4, .window = 16, .min_tokens = 20, .max_error = 10};
  const auto evaluated = [&](const Config& config) {
    run(config, 2);
    return metrics(config).back();
  };
  const Json blocks = evaluated(in("blocks", config_));
  EXPECT_GT(blocks["eval_flex_prefill/kept_share"].get<double>(), 0.2);
  EXPECT_LT(blocks["eval_flex_prefill/kept_share"].get<double>(), 0.98);
  EXPECT_GT(blocks["eval_flex_prefill/logp_difference/mean"].get<double>(), 0);
  EXPECT_GT(blocks["eval_flex_prefill/logp_difference/max"], blocks["eval_flex_prefill/logp_difference/mean"]);
  EXPECT_FALSE(blocks.contains("eval_prefix_kv/kept_share"));
  config_.flex_prefill.check_prompts = 0;
  EXPECT_FALSE(evaluated(in("unchecked", config_)).contains("eval_flex_prefill/logp_difference/max"));
  config_.flex_prefill = {}, config_.eval.kv_budget = 0.5;
  config_.train.metric_for_best_model = "eval_prefix_kv/kept_share";
  const Json keys = evaluated(in("keys", config_));
  EXPECT_NEAR(keys["eval_prefix_kv/kept_share"].get<double>(), 0.5, 0.1);
  EXPECT_FALSE(keys.contains("eval_flex_prefill/kept_share"));
  // By a profile: what its layers drop of 36 to 39 own keys, whatever the prompts looked at.
  config_.eval = {.kv_profile = scratch_ / "kv.json"};
  test::spill(config_.eval.kv_profile, generate::to_kv_profile(arch::preset_config("tiny"), {.budget = 0.8}, 1,
                                                               std::vector<double>{0, 0.5, 0.25, 0.05}));
  EXPECT_NEAR(evaluated(in("profile", config_))["eval_prefix_kv/kept_share"].get<double>(), 0.8, 0.01);
  config_.rollout.num_generations = 2;  // of another name, so that what comes next is no run that goes on
  config_.eval.kv_budget = 0.5;
  expect_words(error_of<ConfigError>([&] { run(in("other", config_), 1); }), {"eval.kv_budget is 0.5", "is for 0.8"});
}

/// A rank whose reward fails: all end with what was wrong and where, none waits.
TEST_F(RolloutRun, ARewardThatFailsOnOneRankIsEveryRanksError) {
  const Config config = in("out", config_);
  std::mutex mutex;
  std::vector<std::string> said;
  comm::run_threads(2, [&](comm::World& world) {
    NullLog log;
    Trainer trainer(world, config, log);
    trainer.set_reward("late", [&](std::span<const rewards::JudgedText> texts) {
      if (world.rank() == 1) throw DataError("the judge is out");
      return rewards::Values(texts.size(), 1.0);
    });
    const std::string error = error_of<DataError>([&] { trainer.train(); });
    const std::lock_guard lock(mutex);
    said.push_back(error);
  });
  EXPECT_EQ(said, std::vector<std::string>(2, "the judge is out (on rank 1)"));
}

TEST_F(RolloutRun, WhatFiltersTakeIsSaid) {
  config_.rollout.top_k = 5, config_.train.max_steps = 1;
  const Config config = in("out", config_);
  run(config, 2);
  expect_words(said(), {"rollout.top_k, top_p, min_p or repetition_penalty change what is drawn"});
  const double mass = metrics(config)[0]["rollout/truncated_mass"];
  EXPECT_GT(mass, 0.9) << "five tokens of some hundred that are nearly alike";
  EXPECT_LT(mass, 1);
}

TEST_F(RolloutRun, AProgramsNumbersAreMetrics) {
  const std::string path = scratch_ / "judge.py";
  test::spill(
      path,
      "import json, sys\n"
      "for text in sys.stdin:\n"
      "    line = json.loads(text)\n"
      "    print(json.dumps({'id': line['id'], 'reward': 1, 'metrics': {'length': len(line['completion_ids'])}}),"
      " flush=True)\n");
  config_.reward.command = {"python3", path}, config_.reward.weights = {1, 0.25, 0.1}, config_.train.max_steps = 1;
  const Config config = in("out", config_);
  run(config, 2);
  EXPECT_EQ(metrics(config)[0]["rewards/command/length"], metrics(config)[0]["completions/mean_length"]);
}

TEST_F(RolloutRun, StopTextsEndCompletionsAndWhatIsJudgedEndsAhead) {
  config_.rollout.max_completion_length = 20, config_.train.max_steps = 1;
  const std::string letters = "abcdefghijklmnopqrstuvwxyz";
  for (const char letter : letters) config_.rollout.stop.emplace_back(1, letter);
  config_.data.eval_path = {prompts(4)}, config_.eval.temperature = 1;
  config_.train.eval_on_start = true;
  const Config one = in("one", config_);
  run(one, 1);
  Config other = in("other", config_);
  static_cast<MeshShape&>(other.parallel) = {.dp = 1, .pp = 2};
  run(other, 2);
  EXPECT_EQ(sampled(one), sampled(other));
  std::map<std::string, int> ends;
  for (const Json& row : rows(one.train.output_dir + "/completions/step-1.jsonl")) {
    ++ends[row["finish_reason"]];
    EXPECT_EQ(row["completion"].get<std::string>().find_first_of(letters), std::string::npos);
  }
  EXPECT_GT(ends["stop_string"], 0);
  EXPECT_EQ(ends.count("stop_string") + ends.count("length") + ends.count("stop"), ends.size());
  const std::vector<Json> all = metrics(one);
  ASSERT_EQ(all.size(), 3U);
  EXPECT_EQ(all[0]["step"], 0) << "eval_on_start";
  EXPECT_TRUE(all[0].contains("eval_accuracy"));
  EXPECT_LT(all[0]["eval_completions/clipped_ratio"].get<double>(), 1) << "stop texts end evaluations too";
  EXPECT_EQ(all[2]["step"], 1);
}

TEST_F(RolloutRun, RefusesWhatCannotBeBeforeAnythingIsWritten) {
  const auto refused = [&](void (*change)(Config&), int ranks = 1) {
    Config config = in("out", config_);
    change(config);
    std::string what;
    log_.emplace();
    comm::run_threads(ranks, [&](comm::World& world) {
      try {
        Trainer(world, config, *log_).train();
      } catch (const Error& error) {
        if (world.rank() == 0) what = error.what();
      }
    });
    EXPECT_FALSE(fs::exists(scratch_ / "out")) << what;
    std::string planned;
    try {
      NullLog log;
      (void)config::describe_plan(config, ranks, log);
    } catch (const Error& error) {
      planned = error.what();
    }
    // No plan knows whether a program can be started.
    EXPECT_EQ(planned, what.find("cannot be started") == std::string::npos ? what : "");
    return what;
  };
  expect_words(refused([](Config& c) { c.reward.functions.clear(), c.reward.weights.clear(); }),
               {"nothing says what a completion is worth", "reward.functions", "Trainer::set_reward"});
  expect_words(refused([](Config& c) { c.reward.weights = {1}; }), {"reward.weights has 1 numbers"});
  expect_words(refused([](Config& c) { c.reward.pattern = "[a-"; }), {"reward.pattern"});
  expect_words(refused([](Config& c) { c.pack.max_tokens = 8; }), {"pack.max_tokens 8", "holds it"});
  expect_words(refused([](Config& c) { c.rollout.stop_token_ids = {999}; }), {"rollout.stop_token_ids: 999"});
  const std::string no_tokenizer = scratch_ / "empty", ids = scratch_ / "ids.jsonl";
  fs::create_directory(no_tokenizer), test::spill(ids, R"({"prompt_ids": [3, 1]})");
  Config without = in("out", config_);
  without.data.tokenizer = no_tokenizer, without.rollout.prompts = {ids}, without.rollout.stop = {"."};
  comm::run_threads(1, [&](comm::World& world) {
    NullLog log;
    expect_words(error_of<ConfigError>([&] { Trainer(world, without, log).train(); }),
                 {"rollout.stop looks for texts", "no tokenizer", "rollout.stop_token_ids"});
  });
  expect_words(refused([](Config& c) { c.rollout.prompts = {"none.jsonl"}; }), {"none.jsonl", "check rollout.prompts"});
  expect_words(refused([](Config& c) { c.reward.command = {"./none-such"}, c.reward.weights = {}; }),
               {"./none-such cannot be started"});
  expect_words(refused([](Config& c) { c.data.eval_path = {"none.jsonl"}; }), {"check data.eval_path"});
  expect_words(refused([](Config& c) { c.rollout.max_completion_length = 200000, c.pack.max_tokens = 300000; }),
               {"rollout.prompts: prompt 1 has ", "positions for "});
  expect_words(refused([](Config& c) { c.rollout.kv_gib = 1e-6; }, 2),
               {"rollout.prompts: prompt 1 with its 3", "kv_gib"});
  expect_words(refused(
                   [](Config& c) {
                     c.data.eval_path = c.rollout.prompts, c.eval.max_completion_length = 200000;
                     c.parallel.dp = 1, c.parallel.pp = 2;
                   },
                   2),
               {"data.eval_path: prompt 1 has ", "positions for "});
}

TEST_F(RolloutRun, WarnsOnceWhereNothingEnds) {
  config_.rollout.max_completion_length = 1, config_.reward.soft_punish_cache = 1;
  run(in("out", config_), 1);
  const std::string all = said(), words = "no completion of this round has ended";
  ASSERT_NE(all.find(words), std::string::npos);
  EXPECT_EQ(all.find(words, all.find(words) + 1), std::string::npos);
}

}  // namespace
}  // namespace fpdist::trainer
