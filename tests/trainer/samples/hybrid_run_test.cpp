// Runs that make their own rollouts, some of which go on from the beginning of a demonstration.
#include <gtest/gtest.h>

#include <filesystem>
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

double is_even(int32_t last) { return last % 2 == 0 ? 1 : 0; }

/// Hybrids are what the offline helpers make with the same seeds: prompts that end in the beginning of a demonstration,
/// their completions, and groups of these with the plain ones.
TEST_F(HybridRun, HybridsAreThoseOfTheSamePrefixesInAFile) {
  constexpr int64_t kPlain = 3, kHybrids = 2;
  const std::string shown = scratch_ / "shown.jsonl", plain = scratch_ / "plain.jsonl",
                    begun = scratch_ / "begun.jsonl";
  std::string rows_of_prompts;
  for (int i = 0; i < 2; ++i)
    rows_of_prompts +=
        Json{{"prompt_ids", {3, 1, 4, i}}, {"demonstration_ids", {40, 41, 42, 43, 44, 45 + i}}}.dump() + "\n";
  test::spill(shown, rows_of_prompts);
  Config config = in("online", with_hybrids(config_, 2, kHybrids));
  config.rollout.prompts = {shown}, config.rollout.num_generations = kPlain + kHybrids;
  config.train.max_steps = 1, config.reward.functions.clear(), config.reward.weights.clear();
  config.data.shuffle = false;
  comm::run_threads(1, [&](comm::World& world) {
    NullLog log;
    Trainer trainer(world, config, log);
    trainer.set_reward("evens", [&](std::span<const rewards::JudgedText> texts) {
      rewards::Values values;
      for (const rewards::JudgedText& one : texts) values.push_back(is_even(one.token.back()));
      return values;
    });
    const auto offline = [&](const std::string& prompts, int64_t generations, uint64_t seed) {
      std::istringstream lines(prompts);
      std::vector<std::vector<int32_t>> tokens;
      std::vector<Json> made;
      for (std::string line; std::getline(lines, line);)
        made.push_back(Json::parse(line)), tokens.push_back(made.back().at("prompt_ids"));
      generate::SamplingOptions sampling = config.rollout;
      sampling.num_generations = generations, sampling.seed = seed;
      const std::vector<data::Group> groups = trainer.roll_out(tokens, sampling);
      std::string all;
      for (size_t p = 0; p < made.size(); ++p) {
        for (const data::Sample& one : groups[p].sample)
          made[p]["completions"].push_back(
              {{"ids", std::vector<int32_t>(one.token.begin() + one.prompt_length, one.token.end())},
               {"reward", is_even(one.token.back())}});
        all += made[p].dump() + "\n";
      }
      return all;
    };
    const data::PrefixPromptOptions prefixes{
        .input = shown, .lengths = config::prefix_lengths(config.rollout), .step = 0, .seed = config.rollout.seed};
    test::spill(plain, offline(rows_of_prompts, kPlain, config.rollout.seed));
    test::spill(begun, offline(data::prefix_prompts(prefixes), kHybrids, config.rollout.seed + 1));
    trainer.train();
  });
  int64_t begin = 0;
  for (const Json& row : rows(config.train.output_dir + "/completions/step-1.jsonl"))
    begin += row.contains("prefix_length");
  EXPECT_EQ(begin, 2 * kHybrids);
  Config offline = in("offline", config);
  offline.rollout.prompts.clear(), offline.rollout.num_hybrids = 0, offline.data.path = {scratch_ / "rows.jsonl"};
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
               {"has 9 tokens", "beyond the model's max_position_embeddings"});
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
