// Rollouts by the trainer: the same on any ranks that hold the model, whole or in parts, by the weights as they are,
// and trained on.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <mutex>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/generate/generate.hpp"
#include "fpdist/trainer/trainer.hpp"
#include "tests/support/ranks/error_on_ranks.hpp"
#include "tests/support/words/error_of.hpp"
#include "tests/trainer/tiny_config.hpp"

namespace fpdist::trainer {
namespace {

using Tokens = std::vector<int32_t>;

const std::vector<Tokens> kPrompts = {{3, 1, 4, 1, 5}, {3, 1, 4, 2}, {9}, {3, 1, 4, 2, 7}, {8, 8}};

generate::SamplingOptions some_options() {
  generate::SamplingOptions options;
  options.num_generations = 3, options.max_completion_length = 5, options.seed = 4;
  return options;
}

/// Long ones, which an evaluation may answer behind a part of their keys: two that share, one alone.
std::vector<Tokens> long_prompts() {
  std::vector<Tokens> prompts(3);
  for (int32_t t = 0; t < 40; ++t)
    for (int32_t p = 0; p < 3; ++p)
      if (t < 40 - 6 * p) prompts[static_cast<size_t>(p)].push_back((t * t + (p == 1 && t < 20 ? 0 : p) * 5) % 23);
  return prompts;
}

Config config_of(const MeshShape& shape, int virtual_stages = 1) {
  Config config = test::tiny_config(Method::kGrpo);
  static_cast<MeshShape&>(config.parallel) = shape;
  if (virtual_stages > 1)
    config.parallel.schedule = plan::Schedule::kInterleaved, config.parallel.virtual_stages = virtual_stages;
  config.loss.beta = 0, config.loss.epsilon = config.loss.epsilon_high = 1e-5;
  return config;
}

void give_rewards(std::vector<data::Group>& groups) {
  for (data::Group& group : groups)
    for (data::Sample& sample : group.sample) sample.reward = sample.token.back() % 5;
}

/// Two rounds, a step on each: what was rolled out, and the metrics of the steps.
struct Rounds {
  std::vector<data::Group> first, second, behind_blocks, behind_kept;
  generate::GenerationReport of_blocks, of_kept;
  StepMetrics metrics;
};

Rounds two_rounds(comm::World& world, const MeshShape& shape, int virtual_stages = 1) {
  NullLog log;
  Trainer trainer(world, config_of(shape, virtual_stages), log);
  Rounds rounds;
  rounds.first = trainer.roll_out(kPrompts, some_options());
  give_rewards(rounds.first);
  rounds.metrics = trainer.step(rounds.first);
  rounds.second = trainer.roll_out(kPrompts, some_options(), kPrompts.size());
  generate::SamplingOptions part = some_options();
  part.flex_prefill = {.gamma = 0.5, .min_budget = 4, .block_size = 4, .window = 16, .min_tokens = 20, .max_error = 10};
  rounds.behind_blocks = trainer.roll_out(long_prompts(), part, 0, &rounds.of_blocks);
  part.flex_prefill = {}, part.prefix_kv = {.budget = 0.5, .distance = 2};
  rounds.behind_kept = trainer.roll_out(long_prompts(), part, 0, &rounds.of_kept);
  return rounds;
}

void expect_same(const std::vector<data::Group>& got, const std::vector<data::Group>& wanted) {
  ASSERT_EQ(got.size(), wanted.size());
  for (size_t g = 0; g < got.size(); ++g) {
    ASSERT_EQ(got[g].sample.size(), wanted[g].sample.size());
    for (size_t s = 0; s < got[g].sample.size(); ++s) {
      EXPECT_EQ(got[g].sample[s].token, wanted[g].sample[s].token) << g << " " << s;
      for (size_t t = 0; t < got[g].sample[s].old_logp.size(); ++t)
        EXPECT_NEAR(got[g].sample[s].old_logp[t], wanted[g].sample[s].old_logp[t], 1e-6);
    }
  }
}

/// Of all ranks together; replicas compute what their prompts share each for itself, and check a prompt each.
void expect_same_report(const Rounds& got, const Rounds& wanted, const MeshShape& shape) {
  const generate::FlexReport &flex = got.of_blocks.flex, &one = wanted.of_blocks.flex;
  EXPECT_LT(flex.kept_share(), 1);
  EXPECT_LE(flex.mean_difference(), flex.greatest_difference);
  EXPECT_GE(flex.checked_prompts, one.checked_prompts);
  EXPECT_NEAR(got.of_kept.kept_key_share(), 0.5, 0.1);
  if (shape.dp * shape.cp > 1) return;
  EXPECT_EQ(flex.all_blocks, one.all_blocks);
  EXPECT_EQ(flex.checked_tokens, one.checked_tokens);
  // A share of gamma that rounding carries over a block's edge is a block more or less.
  EXPECT_NEAR(flex.kept_share(), one.kept_share(), 0.005);
  EXPECT_NEAR(flex.sum_difference, one.sum_difference, 0.05 * one.sum_difference);
  EXPECT_NEAR(flex.greatest_difference, one.greatest_difference, 0.1 * one.greatest_difference);
  EXPECT_EQ(got.of_kept.kept_keys, wanted.of_kept.kept_keys);
  EXPECT_EQ(got.of_kept.all_keys, wanted.of_kept.all_keys);
}

TEST(RollOut, AnyRanksRollOutTheSameAndLearnFromIt) {
  Rounds one;
  comm::run_threads(1, [&](comm::World& world) { one = two_rounds(world, {.dp = 1}); });
  for (size_t g = 0; g < kPrompts.size(); ++g)
    for (const data::Sample& sample : one.first[g].sample) {
      EXPECT_TRUE(std::equal(kPrompts[g].begin(), kPrompts[g].end(), sample.token.begin()));
      EXPECT_EQ(sample.prompt_length, static_cast<int32_t>(kPrompts[g].size()));
      EXPECT_EQ(sample.length(), sample.prompt_length + 5);
      EXPECT_TRUE(sample.truncated);
      EXPECT_EQ(sample.old_logp.size(), sample.token.size());
      EXPECT_EQ(sample.target[0], data::kIgnore);
      EXPECT_EQ(sample.target.back(), sample.token.back());
    }
  EXPECT_GT(one.of_blocks.flex.greatest_difference, 0);
  EXPECT_NE(one.first[0].sample[0].token, one.second[0].sample[0].token);
  for (const auto* groups : {&one.behind_blocks, &one.behind_kept})
    EXPECT_TRUE(groups->front().sample[0].old_logp.empty()) << "no policy to compare with";
  // What sampled is what is trained: every ratio is 1, none is held back.
  EXPECT_EQ(one.metrics.values.at("clip_ratio/region_mean"), 0);
  for (const auto& [shape, virtual_stages] : {std::pair{MeshShape{.dp = 2}, 1},
                                              {MeshShape{.dp = 1, .cp = 2}, 1},
                                              {MeshShape{.dp = 7}, 1},
                                              {MeshShape{.dp = 1, .tp = 2}, 1},
                                              {MeshShape{.dp = 1, .tp = 4}, 1},
                                              {MeshShape{.dp = 1, .pp = 2}, 1},
                                              {MeshShape{.dp = 1, .pp = 2}, 2},
                                              {MeshShape{.dp = 2, .pp = 2, .tp = 2}, 1}}) {
    SCOPED_TRACE(text(to_string(shape), ", virtual stages: ", virtual_stages));
    std::mutex mutex;
    comm::run_threads(shape.size(), [&, shape = shape, virtual_stages = virtual_stages](comm::World& world) {
      const Rounds here = two_rounds(world, shape, virtual_stages);
      const std::lock_guard lock(mutex);
      expect_same(here.first, one.first);
      expect_same(here.second, one.second);  // by the weights that the step has left, of ZeRO's ranks too
      expect_same(here.behind_blocks, one.behind_blocks);
      expect_same(here.behind_kept, one.behind_kept);
      expect_same_report(here, one, shape);
    });
  }
}

TEST(RollOut, LogProbsThatTheLossCannotUseAreLeftOut) {
  comm::run_threads(1, [&](comm::World& world) {
    NullLog log;
    Trainer trainer(world, config_of({.dp = 1}), log);
    generate::SamplingOptions options = some_options();
    options.temperature = 0.5;
    for (const data::Group& group : trainer.roll_out(kPrompts, options))
      for (const data::Sample& sample : group.sample) EXPECT_TRUE(sample.old_logp.empty());
  });
}

TEST(RollOut, GeneratesBehindAPrefixOfKeys) {
  for (const char* type : {"prefix_tuning", "ntk", "prompt_tuning"})
    comm::run_threads(1, [&](comm::World& world) {
      NullLog log;
      Config config = config_of({.dp = 1});
      config.adapter.type = type, config.adapter.num_virtual_tokens = std::string_view(type) == "ntk" ? 0 : 4;
      Trainer trainer(world, config, log);
      if (std::string_view(type) == "prompt_tuning") {
        test::expect_words(test::refusal<ConfigError>([&] { trainer.roll_out(kPrompts, some_options()); }),
                           {"adapter.type is prompt_tuning", "behind one prefix of keys they are (prefix_tuning)"});
        return;
      }
      std::vector<data::Group> groups = trainer.roll_out(kPrompts, some_options());
      give_rewards(groups);
      // What sampled is what is trained.
      EXPECT_EQ(trainer.step(groups).values.at("clip_ratio/region_mean"), 0) << type;
    });
}

TEST(RollOut, RefusesRanksThatDiffer) {
  comm::run_threads(2, [&](comm::World& world) {
    NullLog log;
    Trainer trainer(world, config_of({.dp = 2}), log);
    std::vector<Tokens> prompts = kPrompts;
    prompts[1][0] += world.rank();
    test::expect_words(test::error_of<ConfigError>([&] { trainer.roll_out(prompts, some_options()); }),
                       {"the ranks are asked for different rollouts: prompts: 5, checksum "});
    generate::SamplingOptions options = some_options();
    options.top_k += world.rank();
    test::expect_words(test::error_of<ConfigError>([&] { trainer.roll_out(kPrompts, options); }), {"options: "});
    prompts = kPrompts, prompts.back().clear();  // a prompt of the second rank: both say so
    test::expect_words(test::error_of<DataError>([&] { trainer.roll_out(prompts, some_options()); }),
                       {"prompt 5 is empty"});
  });
}

}  // namespace
}  // namespace fpdist::trainer
