// Runs that make their own rollouts, some of which go on from the beginning of a demonstration.
#include <gtest/gtest.h>

#include <filesystem>
#include <numeric>
#include <sstream>
#include <string>
#include <vector>

#include "src/config/hybrids.hpp"
#include "src/data/made/hybrids.hpp"
#include "tests/trainer/samples/rollout_runs.hpp"

namespace fpdist::trainer {
namespace {

using test::expect_words;
using HybridRun = test::RolloutRun;
using Json = nlohmann::json;

double worth(int32_t last) { return last % 5 / 4.0; }

/// Rows of `prompts` (JSON lines) with what the model makes of them, each with its reward.
std::string rolled_out(Trainer& trainer, generate::SamplingOptions sampling, const std::string& prompts,
                       int64_t generations, uint64_t seed) {
  std::istringstream lines(prompts);
  std::vector<std::vector<int32_t>> tokens;
  std::vector<Json> made;
  for (std::string line; std::getline(lines, line);)
    made.push_back(Json::parse(line)), tokens.push_back(made.back().at("prompt_ids"));
  sampling.num_generations = generations, sampling.seed = seed;
  const std::vector<data::Group> groups = trainer.roll_out(tokens, sampling);
  std::string all;
  for (size_t p = 0; p < made.size(); ++p) {
    for (const data::Sample& one : groups[p].sample)
      made[p]["completions"].push_back(
          {{"ids", std::vector<int32_t>(one.token.begin() + one.prompt_length, one.token.end())},
           {"reward", worth(one.token.back())}});
    all += made[p].dump() + "\n";
  }
  return all;
}

/// Hybrids are what the offline helpers make with the same seeds: prompts that end in the beginning of a demonstration,
/// their completions, and groups of these with the plain ones.
TEST_F(HybridRun, HybridsAreThoseOfTheSamePrefixesInAFile) {
  constexpr int kPlain = 3, kHybrids = 2, kPrompts = 3;
  const std::string shown = scratch_ / "shown.jsonl", plain = scratch_ / "plain.jsonl",
                    begun = scratch_ / "begun.jsonl";
  std::string rows_of_prompts;
  for (int i = 0; i < kPrompts; ++i) {
    std::vector<int32_t> demonstration(30);
    std::iota(demonstration.begin(), demonstration.end(), 40 + i);
    rows_of_prompts += Json{{"prompt_ids", {3, 1, 4, i}}, {"demonstration_ids", demonstration}}.dump() + "\n";
  }
  test::spill(shown, rows_of_prompts);
  Config config = in("online", with_hybrids(config_, kPrompts, kHybrids));
  config.rollout.prompts = {shown}, config.rollout.num_generations = kPlain + kHybrids;
  config.rollout.prefix_low = "const,0.1";
  config.train.groups_per_step = kPrompts, config.train.max_steps = 2, config.reward.functions.clear(),
  config.reward.weights.clear();
  config.data.shuffle = false;
  comm::run_threads(1, [&](comm::World& world) {
    NullLog log;
    Trainer trainer(world, config, log);
    trainer.set_reward("fifths", [&](std::span<const rewards::JudgedText> texts) {
      rewards::Values values;
      for (const rewards::JudgedText& one : texts) values.push_back(worth(one.token.back()));
      return values;
    });
    data::PrefixPromptOptions prefixes{
        .input = shown, .lengths = config::prefix_lengths(config.rollout), .step = 0, .seed = config.rollout.seed};
    test::spill(plain, rolled_out(trainer, config.rollout, rows_of_prompts, kPlain, config.rollout.seed));
    test::spill(begun,
                rolled_out(trainer, config.rollout, data::prefix_prompts(prefixes), kHybrids, config.rollout.seed + 1));
    trainer.train();
    for (; prefixes.step < 2; ++prefixes.step) {
      std::vector<Json> lengths, wanted;
      for (const Json& row : rows(text(config.train.output_dir, "/completions/step-", prefixes.step + 1, ".jsonl")))
        if (row.contains("prefix_length")) lengths.push_back(row["prefix_length"]);
      std::istringstream lines(data::prefix_prompts(prefixes));
      for (std::string line; std::getline(lines, line);)
        wanted.insert(wanted.end(), kHybrids, Json::parse(line)["prefix_length"]);
      EXPECT_EQ(lengths, wanted);
      EXPECT_NE(wanted.front(), wanted.back());
    }
  });
  Config offline = in("offline", config);
  offline.rollout.prompts.clear(), offline.rollout.num_hybrids = 0, offline.data.path = {scratch_ / "rows.jsonl"};
  offline.train.max_steps = 1;
  test::spill(offline.data.path[0], data::hybrid_groups(plain, begun));
  run(offline, 1);
  EXPECT_GT(metrics(config)[0]["prefix/share"].get<double>(), 0.05);
  EXPECT_GT(metrics(config)[0]["grad_norm"].get<double>(), 1e-3);
  for (const char* name : {"loss", "grad_norm", "entropy", "reward_std", "completions/mean_length", "prefix/share",
                           "prefix/kept", "prefix/entropy"})
    EXPECT_NEAR(metrics(offline)[0][name].get<double>(), metrics(config)[0][name].get<double>(), 1e-10) << name;
}

TEST_F(HybridRun, NamesPromptsThatItCannotBeginWith) {
  const std::string ids = scratch_ / "ids.jsonl";
  test::spill(ids, R"({"prompt_ids": [3, 1]})");
  const auto refused = [&](void (*change)(Config&)) {
    Config config = in("out", config_);
    change(config);
    const std::string what = test::refusal<Error>([&] { run(config, 1); });
    EXPECT_FALSE(std::filesystem::exists(scratch_ / "out")) << what;
    return what;
  };
  config_ = with_hybrids(config_, 4, 1);
  expect_words(refused([](Config& c) { c.pack.max_tokens = 14; }),
               {"with all but the end of its demonstration has 11 tokens", "pack.max_tokens: 16 holds it"});
  expect_words(refused([](Config& c) { c.rollout.max_completion_length = 131064, c.pack.max_tokens = 140000; }),
               {"rollout.prompts: prompt 1 has 9 tokens", "the model has positions for 131072"});
  config_.rollout.prompts = {ids};
  expect_words(refused([](Config&) {}),
               {"ids.jsonl:1: rollout.num_hybrids asks for completions that begin as a demonstration does",
                "one of demonstration_ids and demonstration", "rollout.num_hybrids: 0"});
  test::spill(ids, R"({"prompt_ids": [3, 1], "solution": "4"})");
  expect_words(refused([](Config& c) { c.data.columns["demonstration"] = "solution"; }),
               {"ids.jsonl:1: the demonstration has 1 tokens", "give one of 2 or more"});
  test::spill(ids, R"({"prompt_ids": [3, 1], "demonstration": "4", "demonstration_ids": [4]})");
  expect_words(refused([](Config&) {}), {"the row has both of demonstration_ids and demonstration"});
}

}  // namespace
}  // namespace fpdist::trainer
