#include "src/trainer/run/best_so_far.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "fpdist/core/error.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::trainer {
namespace {

/// Steps 10, 20, ... that are the best when they come, and the step that ends the run (0: none).
struct Story {
  std::vector<int64_t> best;
  int64_t end = 0;
  bool operator==(const Story&) const = default;
};

Story tell(BestSoFar best, const std::vector<double>& metrics) {
  Story story;
  int64_t step = 0;
  for (const double metric : metrics) {
    const auto verdict = best.see(step += 10, {{best.metric(), metric}});
    if (verdict.is_best) story.best.push_back(step);
    if (verdict.stop && story.end == 0) story.end = step;
  }
  return story;
}

TrainOptions options_of(const std::string& metric, const std::string& greater = "auto", int64_t patience = 0) {
  TrainOptions options;
  options.metric_for_best_model = metric, options.greater_is_better = greater;
  options.early_stopping_patience = patience;
  return options;
}

TEST(BestSoFar, LossesAndPerplexityAreBetterWhenTheyAreLessEverythingElseWhenItIsMore) {
  const std::vector<double> metrics{3, 4, 2, 2, 5};
  const Story less{.best = {10, 30}}, more{.best = {10, 20, 50}};
  for (const char* metric : {"", "loss", "eval_loss", "eval_perplexity", "aux_loss"})
    EXPECT_EQ(tell(BestSoFar(options_of(metric)), metrics), less) << metric;
  for (const char* metric : {"rewards/accuracies", "eval_accuracy", "reward"})
    EXPECT_EQ(tell(BestSoFar(options_of(metric)), metrics), more) << metric;
  EXPECT_EQ(tell(BestSoFar(options_of("loss", "true")), metrics), more);
  EXPECT_EQ(tell(BestSoFar(options_of("accuracy", "false")), metrics), less);
  EXPECT_EQ(BestSoFar(options_of("")).metric(), "eval_loss");
  EXPECT_EQ(BestSoFar(options_of("rewards/margins")).metric(), "eval_rewards/margins");
}

TEST(BestSoFar, PatienceCountsEvaluationsWithoutABetterOne) {
  EXPECT_EQ(tell(BestSoFar(options_of("", "auto", 2)), {3, 4, 2, 2, 2.5, 1}), (Story{.best = {10, 30, 60}, .end = 50}));
  EXPECT_EQ(tell(BestSoFar(options_of("", "auto", 1)), {3, 2, 1}), (Story{.best = {10, 20, 30}}));
}

TEST(BestSoFar, WhatIsNoNumberIsNeverTheBest) {
  const double nan = std::nan("");
  EXPECT_EQ(tell(BestSoFar(options_of("", "auto", 3)), {nan, 2, nan, nan, nan}), (Story{.best = {20}, .end = 50}));
}

TEST(BestSoFar, GoesOnFromItsState) {
  const TrainOptions options = options_of("", "auto", 2);
  BestSoFar first(options);
  first.see(10, {{"eval_loss", 2}});
  first.see(20, {{"eval_loss", 3}});
  EXPECT_EQ(first.state(), (BestEvaluation{.step = 10, .metric = 2, .without_better = 1}));
  BestSoFar second(options, first.state());
  const auto verdict = second.see(30, {{"eval_loss", 2.5}});
  EXPECT_FALSE(verdict.is_best);
  EXPECT_TRUE(verdict.stop);
}

TEST(BestSoFar, ItsStateIsTheSameInTextAndAnEndStaysTheEnd) {
  const BestEvaluation state{.step = 20, .metric = 0.1 + 0.2, .without_better = 2};
  EXPECT_EQ(parse_best_evaluation(to_json(state), "x"), state);
  EXPECT_EQ(parse_best_evaluation(to_json({}), "x"), BestEvaluation{});
  EXPECT_TRUE(BestSoFar(options_of("", "auto", 2), state).is_over());
  EXPECT_FALSE(BestSoFar(options_of("", "auto", 3), state).is_over());
  for (const char* wrong : {"", "[1]", "{\"best_step\": 1}", "{\"best_step\": \"a\", \"best_metric\": 1}"})
    test::expect_words(test::error_of<ModelFileError>([&] { parse_best_evaluation(wrong, "state.json"); }),
                       {"state.json: its notes on evaluations are none"});
}

TEST(BestSoFar, AMetricThatIsNotThereIsSaidWithThoseThatAre) {
  test::expect_words(test::error_of<ConfigError>([] {
                       BestSoFar(options_of("accuracy")).check_names({{"eval_loss", 1}, {"eval_runtime", 1}});
                     }),
                     {"train.metric_for_best_model: no evaluation has eval_accuracy", "eval_loss, eval_runtime"});
}

}  // namespace
}  // namespace fpdist::trainer
