// Evaluations of a run: when they are, what is written of them, what they decide.

#include "src/trainer/run/evaluation.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <tuple>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/core/rng.hpp"
#include "tests/support/files/scratch.hpp"
#include "tests/support/words/error_of.hpp"
#include "tests/trainer/tiny_config.hpp"

namespace fpdist::trainer {
namespace {

using test::error_of, test::expect_words;
using Json = nlohmann::json;

class EvaluatedRun : public ::testing::Test {
 protected:
  EvaluatedRun() { at::set_num_threads(1); }

  /// Rows of pairs, two a prompt.
  std::string pairs(const std::string& name, int count, uint64_t seed) {
    Rng rng(seed, 3);
    const auto tokens = [&](uint64_t most) {
      Json all = Json::array();
      for (uint64_t i = 1 + rng.below(most); i > 0; --i) all.push_back(rng.below(60));
      return all;
    };
    std::ofstream file(scratch_ / name);
    for (int i = 0; i < count; i += 2) {
      const Json prompt = tokens(12);
      for (int k = 0; k < 2; ++k)
        file << Json{{"prompt_ids", prompt}, {"chosen_ids", tokens(6)}, {"rejected_ids", tokens(6)}}.dump() << "\n";
    }
    return scratch_ / name;
  }

  Config config(Method method = Method::kDpo) {
    Config config = test::tiny_config(method);
    config.data.path = {pairs("train.jsonl", 12, 1)};
    config.data.eval_path = {pairs("eval.jsonl", 6, 2)};
    config.train = {.groups_per_step = 4, .max_steps = 5, .output_dir = scratch_ / "out", .eval_steps = 2};
    config.train.overwrite_output_dir = true;
    return config;
  }

  struct Run {
    std::vector<Json> steps, evaluations;  // rows of metrics.jsonl
    std::vector<int64_t> order;            // of all rows: a step's number, or minus it for an evaluation
    std::map<std::string, at::Tensor> weights;
  };
  Run train(const Config& config, int ranks = 1) {
    Run run;
    comm::run_threads(ranks, [&](comm::World& world) {
      NullLog log;
      Trainer trainer(world, config, log);
      trainer.train();
      auto weights = trainer.gather_weights();
      if (world.rank() == 0) run.weights = std::move(weights);
    });
    std::ifstream file(config.train.output_dir + "/metrics.jsonl");
    for (std::string line; std::getline(file, line);) {
      const Json row = Json::parse(line);
      const bool is_step = row.contains("loss");
      (is_step ? run.steps : run.evaluations).push_back(row);
      run.order.push_back(row["step"].get<int64_t>() * (is_step ? 1 : -1));
    }
    return run;
  }
  std::string refusal(const Config& config) {
    std::string what;
    comm::run_threads(1, [&](comm::World& world) {
      NullLog log;
      what = error_of<Error>([&] { Trainer(world, config, log).train(); });
    });
    return what;
  }

  const test::Scratch scratch_;
};

TEST_F(EvaluatedRun, HasARowOfItsOwnEveryNthStepAndAtTheEnd) {
  const Run run = train(config());
  EXPECT_EQ(run.order, (std::vector<int64_t>{1, 2, -2, 3, 4, -4, 5, -5}));
  for (const Json& row : run.evaluations)
    for (const char* name : {"eval_loss", "eval_rewards/accuracies", "eval_rewards/margins", "eval_runtime",
                             "eval_samples_per_second", "eval_tokens_per_second"})
      EXPECT_TRUE(row.contains(name)) << name;
  EXPECT_NE(run.evaluations[0]["eval_loss"], run.evaluations[2]["eval_loss"]) << "the weights have moved";
  Config last = config();
  last.train.eval_steps = 0;
  EXPECT_EQ(train(last).order, (std::vector<int64_t>{1, 2, 3, 4, 5, -5}));
}

TEST_F(EvaluatedRun, TrainsTheWeightsOfARunWithoutEvaluationOnAnyMesh) {
  for (const auto& [ranks, pp, tp] : {std::tuple(1, 1, 1), {3, 1, 1}, {4, 2, 2}}) {
    Config with = config();
    with.parallel.pp = pp, with.parallel.tp = tp;
    Config without = with;
    without.data.eval_path.clear(), without.train.eval_steps = 0;
    const Run evaluated = train(with, ranks), plain = train(without, ranks);
    EXPECT_EQ(evaluated.evaluations.size(), 3u);
    EXPECT_EQ(plain.evaluations.size(), 0u);
    for (const auto& [name, weight] : plain.weights)
      EXPECT_TRUE(at::equal(evaluated.weights.at(name), weight)) << name << " on " << ranks << " ranks";
  }
}

TEST_F(EvaluatedRun, GivesTheSameNumbersWithTheReferencePrecomputedAndOnEveryMesh) {
  const Run one = train(config());
  for (const auto& [ranks, pp, precompute] : {std::tuple(1, 1, true), {2, 2, false}, {2, 1, true}}) {
    Config other = config();
    other.parallel.pp = pp, other.loss.precompute_ref_log_probs = precompute;
    const Run run = train(other, ranks);
    for (size_t i = 0; i < one.evaluations.size(); ++i)
      for (const char* name : {"eval_loss", "eval_rewards/margins", "eval_logps/chosen"})
        EXPECT_NEAR(run.evaluations[i][name].get<double>(), one.evaluations[i][name].get<double>(), 1e-9)
            << name << " on " << ranks << " ranks";
  }
}

TEST_F(EvaluatedRun, APartOfTheDataIsEvaluatedOnAndNotTrainedOn) {
  Config part = config(Method::kReward);
  part.data.eval_path.clear(), part.data.eval_fraction = 0.34;
  part.train.max_steps = 0, part.train.num_train_epochs = 1;
  const Run run = train(part);
  EXPECT_EQ(run.steps.size(), 2u) << "8 of 12 groups are left";
  ASSERT_EQ(run.evaluations.size(), 1u);
  EXPECT_TRUE(run.evaluations[0].contains("eval_accuracy"));
  EXPECT_EQ(std::lround(run.evaluations[0]["eval_samples_per_second"].get<double>() *
                        run.evaluations[0]["eval_runtime"].get<double>()),
            4);
}

TEST_F(EvaluatedRun, EndsWhenNothingGetsBetter) {
  Config still = config();
  still.optim.learning_rate = 0, still.train.eval_steps = 1, still.train.early_stopping_patience = 2;
  EXPECT_EQ(train(still).order, (std::vector<int64_t>{1, -1, 2, -2, 3, -3}));
}

TEST_F(EvaluatedRun, EndsWithTheWeightsOfItsBestEvaluation) {
  Config best = config();
  best.optim.lr_scheduler_type = "constant";
  best.train.max_steps = 6, best.train.load_best_model_at_end = true;
  best.train.greater_is_better = "true";  // the worst, which is not the last
  best.train.save_total_limit = 1;
  const Run run = train(best, 2);
  const auto highest = std::max_element(
      run.evaluations.begin(), run.evaluations.end(),
      [](const Json& a, const Json& b) { return a["eval_loss"].get<double>() < b["eval_loss"].get<double>(); });
  const int64_t step = (*highest)["step"];
  EXPECT_LT(step, 6);
  EXPECT_TRUE(std::filesystem::exists(scratch_ / text("out/checkpoint-", step, "/manifest.json")));
  Config until = best;
  until.train.max_steps = step, until.train.load_best_model_at_end = false;
  const Run short_run = train(until, 2);
  for (const auto& [name, weight] : short_run.weights) EXPECT_TRUE(at::equal(run.weights.at(name), weight)) << name;
}

TEST_F(EvaluatedRun, GoesOnFromACheckpointAsIfItHadNeverStopped) {
  Config still = config();
  still.train.max_steps = 8, still.train.eval_steps = 1, still.train.early_stopping_patience = 4;
  still.train.metric_for_best_model = "sharing_ratio";  // always the same: the patience runs out
  const Run whole = train(still);
  EXPECT_EQ(whole.evaluations.size(), 5u) << "it ended early";
  comm::run_threads(1, [&](comm::World& world) {
    NullLog log;
    Trainer trainer(world, still, log);
    trainer.set_stop([&] { return trainer.steps_done() == 3; });
    EXPECT_EQ(trainer.train(), RunEnd::kStopped);
  });
  still.train.overwrite_output_dir = false, still.train.resume_from_checkpoint = "auto";
  const Run again = train(still);
  EXPECT_EQ(again.order, whole.order);
  for (size_t i = 0; i < whole.evaluations.size(); ++i)
    EXPECT_EQ(again.evaluations[i]["eval_loss"], whole.evaluations[i]["eval_loss"]) << i;
  for (const auto& [name, weight] : whole.weights) EXPECT_TRUE(at::equal(again.weights.at(name), weight)) << name;
}

TEST_F(EvaluatedRun, WhatCannotBeEvaluatedIsSaidBeforeTheFirstStep) {
  Config large = config();
  large.pack.max_tokens = 30;
  const Json row{{"prompt_ids", std::vector<int>(28, 7)}, {"chosen_ids", {1, 2}}, {"rejected_ids", {3}}};
  std::ofstream(scratch_ / "eval.jsonl", std::ios::app) << row.dump() << "\n";
  expect_words(refusal(large), {"eval.jsonl:7: the group needs 31 rows in one pack", "pack.max_tokens: 31"});
  EXPECT_FALSE(std::filesystem::exists(scratch_ / "out"));
  Config unknown = config();
  unknown.train.metric_for_best_model = "accuracy";
  expect_words(refusal(unknown), {"no evaluation has eval_accuracy", "eval_rewards/accuracies"});
  EXPECT_FALSE(std::filesystem::exists(scratch_ / "out/metrics.jsonl"));
  Config ids = config();
  std::ofstream(scratch_ / "eval.jsonl") << R"({"prompt_ids":[1],"chosen_ids":[9999],"rejected_ids":[3]})"
                                         << "\n";
  expect_words(refusal(ids), {"eval.jsonl:1: the row holds token id 9999"});
}

TEST(EvaluationLine, SaysWhatAPersonWatches) {
  const StepMetrics metrics{.step = 20,
                            .values = {{"eval_loss", 0.51234},
                                       {"eval_perplexity", 1.6692},
                                       {"eval_accuracy", 0.75},
                                       {"eval_tokens_per_second", 8123.4}}};
  EXPECT_EQ(evaluation_line(metrics, {.label = "accuracy", .metric = "accuracy"}),
            "evaluation after step 20: loss 0.5123  perplexity 1.669  accuracy 0.750  8123 tokens/s");
}

}  // namespace
}  // namespace fpdist::trainer
