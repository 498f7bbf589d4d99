#include "fpdist/trainer/trainer.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "fpdist/core/error.hpp"
#include "fpdist/data/loader.hpp"
#include "fpdist/data/reader.hpp"
#include "fpdist/data/tokenizer.hpp"
#include "src/config/describe_plan.hpp"
#include "tests/support/files/scratch.hpp"
#include "tests/support/random/random_groups.hpp"
#include "tests/support/ranks/error_on_ranks.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::trainer {
namespace {

namespace fs = std::filesystem;

class TrainerTest : public ::testing::Test {
 protected:
  TrainerTest() { at::set_num_threads(1); }

  Config config(Method method, const std::string& rows) {
    std::ofstream(dir_ / "data.jsonl") << rows;
    Config config;
    config.method = method;
    config.model.preset = "tiny";
    config.data.path = {(dir_ / "data.jsonl").string()};
    config.train = {.groups_per_step = 2, .max_steps = 3, .output_dir = (dir_ / "out").string()};
    config.optim.learning_rate = 1e-3;
    return config;
  }

  static std::string pairs() {
    std::string rows;
    for (int i = 0; i < 5; ++i)
      rows += text(R"({"prompt_ids":[1,2,3,4,)", i, R"(],"chosen_ids":[7,8,)", 9 + i, R"(],"rejected_ids":[7,)", 20 + i,
                   "]}\n");
    return rows;
  }

  std::vector<std::string> lines(const std::string& file) {
    std::ifstream in(dir_ / file);
    std::vector<std::string> result;
    for (std::string line; std::getline(in, line);) result.push_back(line);
    return result;
  }

  const test::Scratch scratch_;
  const fs::path dir_ = scratch_.path();
  NullLog log_;
};

TEST_F(TrainerTest, StepsLaidOutAheadAreTheStepsOfACallersOwnLoop) {
  std::string rollouts;
  for (int i = 0; i < 5; ++i)
    rollouts += text(R"({"prompt_ids":[1,2,3,)", i, R"(],"completions":[{"ids":[5,6,)", i,
                     R"(],"reward":1},{"ids":[5,7],"reward":)", i % 3, "}]}\n");
  for (const auto& [method, rows] : {std::pair(Method::kDpo, pairs()), std::pair(Method::kGrpo, rollouts)}) {
    SCOPED_TRACE(name_of(method));
    Config run = config(method, rows);
    run.train.overwrite_output_dir = true;
    std::vector<double> ahead, own;
    comm::run_threads(1, [&](comm::World& world) {
      Trainer trainer(world, run, log_);
      trainer.set_hook([&](const StepMetrics& step) { ahead.push_back(step.values.at("loss")); });
      trainer.train();
    });
    comm::run_threads(1, [&](comm::World& world) {
      Trainer trainer(world, run, log_);
      const auto tokenizer = data::make_byte_tokenizer();
      const data::Dataset dataset = data::read_dataset(run.data, method, *tokenizer, log_);
      const data::Loader loader(static_cast<int64_t>(dataset.group.size()), run.train.groups_per_step, run.train.seed,
                                run.data.shuffle);
      for (int64_t step = 0; step < run.train.max_steps; ++step) {
        const std::vector<data::Group> groups = data::pick_groups(dataset, loader.step(step));
        own.push_back(trainer.step(groups).values.at("loss"));
      }
    });
    EXPECT_EQ(ahead, own);
    EXPECT_EQ(ahead.size(), 3U);
  }
}

TEST_F(TrainerTest, ARunWritesMetricsLogsAndAModel) {
  const Config run = config(Method::kDpo, pairs());
  comm::run_threads(2, [&](comm::World& world) { Trainer(world, run, log_).train(); });
  const auto metrics = lines("out/metrics.jsonl");
  ASSERT_EQ(metrics.size(), 3u);
  for (const char* key :
       {"\"step\": 1", "\"loss\"", "\"grad_norm\"", "\"learning_rate\"", "\"epoch\"", "\"rewards/accuracies\"",
        "\"tokens_logical\"", "\"tokens_computed\"", "\"sharing_ratio\"", "\"bubble\"", "\"mfu\": null"})
    EXPECT_NE(metrics.front().find(key), std::string::npos) << key << " is missing in " << metrics.front();
  for (const char* file :
       {"out/logs/rank_0.log", "out/logs/rank_1.log", "out/final/config.json", "out/final/model.safetensors"})
    EXPECT_TRUE(fs::exists(dir_ / file)) << file;
}

TEST_F(TrainerTest, AnExportedModelIsTheStartOfTheNextRun) {
  Config run = config(Method::kDpo, pairs());
  run.model.dtype = DType::kFloat64;
  at::Tensor trained, loaded;
  comm::run_threads(1, [&](comm::World& world) {
    Trainer trainer(world, run, log_);
    trainer.train();
    trained = trainer.parameters().value().clone();
  });
  run.model.preset.clear();
  run.model.path = (dir_ / "out/final").string();
  comm::run_threads(1, [&](comm::World& world) { loaded = Trainer(world, run, log_).parameters().value().clone(); });
  EXPECT_TRUE(at::equal(trained, loaded));
}

TEST_F(TrainerTest, PrecomputedReferenceGivesTheSameStep) {
  Config run = config(Method::kDpo, pairs());
  run.model.dtype = DType::kFloat64;
  const auto weights = [&](bool precompute) {
    run.loss.precompute_ref_log_probs = precompute;
    run.train.overwrite_output_dir = true;
    at::Tensor result;
    comm::run_threads(2, [&](comm::World& world) {
      Trainer trainer(world, run, log_);
      trainer.train();
      if (world.rank() == 0) result = trainer.parameters().value().clone();
    });
    return result;
  };
  const at::Tensor online = weights(false), before = weights(true);
  EXPECT_LT((online - before).norm().item<double>(), 1e-12 * online.norm().item<double>());
}

TEST_F(TrainerTest, ALossThatIsNotFiniteStopsEveryRankWithTheSameWords) {
  const std::string what = test::error_on_ranks<NumericsError>(3, [&](comm::World& world) {
    Trainer trainer(world, config(Method::kSft, ""), log_);
    const auto groups = test::random_groups(Method::kSft, 6, 2);
    trainer.step(groups);
    const int rank = world.rank();
    trainer.set_loss([rank](const loss::Edges& edges, const plan::StepTotals&) {
      const double factor = rank == 1 ? std::nan("") : 1.0;
      return loss::LossOutput{.loss = edges.logp.sum() * factor, .metrics = {}};
    });
    trainer.step(groups);
  });
  EXPECT_NE(what.find("step 2: the loss is nan on rank 1 in pack 0, samples"), std::string::npos) << what;
  EXPECT_NE(what.find("samples (group.index)"), std::string::npos) << what;
}

TEST_F(TrainerTest, AGradientThatIsNotFiniteNamesAParameter) {
  const std::string what = test::error_on_ranks<NumericsError>(2, [&](comm::World& world) {
    Trainer trainer(world, config(Method::kSft, ""), log_);
    trainer.set_loss([](const loss::Edges& edges, const plan::StepTotals&) {
      return loss::LossOutput{.loss = (edges.logp * 0.0).abs().sqrt().sum(),
                              .metrics = {}};  // 0, with a slope of inf * 0
    });
    trainer.step(test::random_groups(Method::kSft, 6, 2));
  });
  EXPECT_NE(what.find("step 1: the gradient of "), std::string::npos) << what;
  EXPECT_NE(what.find("the rows of every layer are finite"), std::string::npos) << what;
  EXPECT_NE(what.find(".weight"), std::string::npos) << what;
}

TEST_F(TrainerTest, DifferentGroupsOnTheRanksAreADataError) {
  test::error_on_ranks<DataError>(2, [&](comm::World& world) {
    Trainer trainer(world, config(Method::kSft, ""), log_);
    trainer.step(test::random_groups(Method::kSft, 4 + world.rank(), 1));
  });
}

TEST_F(TrainerTest, AnOccupiedOutputDirectoryIsRefused) {
  const Config run = config(Method::kDpo, pairs());
  fs::create_directories(dir_ / "out");
  std::ofstream(dir_ / "out/precious.txt") << "mine";
  const std::string what =
      test::error_on_ranks<ConfigError>(2, [&](comm::World& world) { Trainer(world, run, log_).train(); });
  EXPECT_NE(what.find("train.overwrite_output_dir"), std::string::npos) << what;
  EXPECT_TRUE(fs::exists(dir_ / "out/precious.txt"));
}

TEST_F(TrainerTest, AnOutputDirectoryThatCannotBeMadeIsADiskError) {
  Config run = config(Method::kDpo, pairs());
  run.train.output_dir = (dir_ / "data.jsonl/out").string();
  test::error_on_ranks<DiskError>(2, [&](comm::World& world) { Trainer(world, run, log_).train(); });
}

TEST_F(TrainerTest, TokensOutsideTheVocabularyAreADataError) {
  const Config run = config(Method::kDpo, R"({"prompt_ids":[1],"chosen_ids":[99999],"rejected_ids":[2]})");
  const std::string what =
      test::error_on_ranks<DataError>(2, [&](comm::World& world) { Trainer(world, run, log_).train(); });
  EXPECT_NE(what.find("99999"), std::string::npos) << what;
  EXPECT_FALSE(fs::exists(dir_ / "out")) << "a run that never starts leaves nothing in the next one's way";
}

TEST_F(TrainerTest, LogProbsForOnlySomeSamplesAreADataError) {
  auto groups = test::random_groups(Method::kGrpo, 3, 5);
  groups.front().sample.front().old_logp.clear();
  test::error_on_ranks<DataError>(
      1, [&](comm::World& world) { Trainer(world, config(Method::kGrpo, ""), log_).step(groups); });
}

TEST_F(TrainerTest, ThePlanIsDescribedWithoutTraining) {
  Config run = config(Method::kDpo, pairs());
  const std::string plan = config::describe_plan(run, 4, log_);
  EXPECT_NE(plan.find("sharing ratio"), std::string::npos) << plan;
  EXPECT_NE(plan.find("memory a rank"), std::string::npos) << plan;
  EXPECT_FALSE(fs::exists(dir_ / "out"));
  run.parallel.dp = 3;
  EXPECT_THROW(config::describe_plan(run, 4, log_), ConfigError);
}

TEST_F(TrainerTest, ThePlanOfRolloutsIsOfTheirPromptsAndLongestCompletions) {
  const std::string path = dir_ / "prompts.jsonl";
  std::string lines;
  for (int i = 0; i < 8; ++i) lines += text(R"({"prompt_ids": [3, 1, 4, 1, )", i, "]}\n");
  test::spill(path, lines);
  Config run = config(Method::kGrpo, "");
  run.data.path.clear(), run.data.shuffle = false;
  run.model.dtype = DType::kFloat32, run.model.device = "cpu";
  run.train.groups_per_step = 4, run.train.max_steps = 2, run.pack.max_tokens = 64;
  run.rollout.prompts = {path}, run.rollout.num_generations = 3, run.rollout.max_completion_length = 10;
  run.rollout.max_num_seqs = 6, run.reward.functions = {"exact"};
  const std::string plan = config::describe_plan(run, 2, log_);
  // A replica has two prompts, 4 of whose 5 tokens are the same.
  test::expect_words(
      plan, {"8 prompts, 3 completions of each, 4 prompts a round, 2 steps an epoch, 2 in all",
             "every completion of 10 tokens: at most", "tokens             360 logical, ",
             "(6 completions of 10 tokens behind 6 rows of prompts; ahead of a round's activations", "packed weights"});
  Config often = run;  // each prompt twice in a step: their completions share nothing
  often.train.groups_per_step = 16, often.pack.max_tokens = 4096;
  test::expect_words(config::describe_plan(often, 1, log_), {text("720 logical, ", 16 * 3 * 10 + 4 + 8, " computed")});
  Config longer = run;
  longer.rollout.max_completion_length = 40, longer.rollout.kv_gib = 3e-4;
  test::expect_words(config::describe_plan(longer, 2, log_), {"keys and values  0.3 MiB (6 completions"});
  longer.rollout.kv_gib = 0;
  test::expect_words(config::describe_plan(longer, 2, log_), {"keys and values  0.5 MiB (6 completions"});
  run.pack.max_tokens = 14;
  test::expect_words(test::error_of<ConfigError>([&] { config::describe_plan(run, 2, log_); }),
                     {"the longest prompt has 5 tokens", "pack.max_tokens: 15 holds it"});
}

TEST_F(TrainerTest, TheMemoryEstimateCountsTheWeightsExactly) {
  Config run = config(Method::kDpo, pairs());
  const std::string plan = config::describe_plan(run, 1, log_);
  int64_t weights = 0;
  comm::run_threads(1, [&](comm::World& world) { weights = Trainer(world, run, log_).parameters().size(); });
  EXPECT_NE(plan.find(text("(", weights, " parameters)")), std::string::npos) << plan;
}

}  // namespace
}  // namespace fpdist::trainer
