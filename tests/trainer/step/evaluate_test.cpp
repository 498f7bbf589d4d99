// The laws of evaluations: on any mesh, in any batches, they give what one step would report; they leave no trace in
// the steps around them.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/trainer/trainer.hpp"
#include "src/trainer/report/evaluation_report.hpp"
#include "tests/support/laws/metric_laws.hpp"
#include "tests/support/random/random_groups.hpp"
#include "tests/support/ranks/error_on_ranks.hpp"
#include "tests/support/words/error_of.hpp"
#include "tests/trainer/tiny_config.hpp"

namespace fpdist::trainer {
namespace {

using test::tiny_config;
using Metrics = std::map<std::string, double>;

plan::ParallelOptions mesh(int dp, int pp, int cp, int tp, plan::Schedule schedule = plan::Schedule::k1F1B) {
  plan::ParallelOptions options;
  options.dp = dp, options.pp = pp, options.cp = cp, options.tp = tp, options.schedule = schedule;
  options.virtual_stages = schedule == plan::Schedule::kInterleaved ? 2 : 1;
  options.cp_chunk = 4;
  return options;
}

std::vector<plan::ParallelOptions> meshes() {
  return {mesh(1, 1, 1, 1), mesh(3, 1, 1, 1), mesh(1, 2, 2, 2), mesh(2, 2, 1, 1, plan::Schedule::kZeroBubble),
          mesh(1, 2, 1, 1, plan::Schedule::kInterleaved)};
}

Config config_of(Method method, const plan::ParallelOptions& parallel, int slices = 1) {
  Config config = tiny_config(method);
  config.pack.max_tokens = 70, config.pack.slices = slices;
  config.train.groups_per_step = 3;  // what is evaluated comes in several batches, the last one short
  config.parallel = parallel;
  return config;
}

/// What rank 0 saw.
template <typename Run>
auto on_ranks(const Config& config, Run run) {
  at::set_num_threads(1);
  decltype(run(std::declval<Trainer&>())) seen;
  comm::run_threads(config.parallel.size(),
                    [&](comm::World& world) {
                      NullLog log;
                      Trainer trainer(world, config, log);
                      auto own = run(trainer);
                      if (world.rank() == 0) seen = std::move(own);
                    },
                    {.timeout = std::chrono::seconds(120)});
  return seen;
}

class Evaluation : public ::testing::TestWithParam<Method> {};

TEST_P(Evaluation, IsWhatOneStepOfAllGroupsWouldReportOnEveryMeshInAnyBatches) {
  const auto groups = test::random_groups(GetParam(), 10, 5);
  const Metrics step =
      on_ranks(config_of(GetParam(), mesh(1, 1, 1, 1)), [&](Trainer& trainer) { return trainer.step(groups).values; });
  const double ties = test::share_of_ties(groups);
  for (const plan::ParallelOptions& parallel : meshes())
    for (const int slices : {1, 3}) {
      SCOPED_TRACE(text(to_string(parallel), ", slices ", slices));
      const Metrics evaluated = on_ranks(config_of(GetParam(), parallel, slices),
                                         [&](Trainer& trainer) { return trainer.evaluate(groups).values; });
      int compared = 0;
      for (const auto& [name, value] : evaluated) {
        const auto found = step.find(name.substr(std::string("eval_").size()));
        if (found == step.end() || test::is_about_layout(found->first)) continue;
        EXPECT_NEAR(value, found->second,
                    test::tie_tolerance(found->first, ties) + 1e-10 * std::max(1.0, std::abs(value)))
            << name;
        ++compared;
      }
      EXPECT_GE(compared, 3);
      if (GetParam() == Method::kSft) {
        EXPECT_DOUBLE_EQ(evaluated.at("eval_perplexity"), std::exp(evaluated.at("eval_loss")));
      }
      EXPECT_EQ(evaluated.contains("eval_perplexity"), GetParam() == Method::kSft);
      EXPECT_GT(evaluated.at("eval_tokens_per_second"), 0);
    }
}

TEST_P(Evaluation, LeavesNoTraceInTheStepsAroundIt) {
  struct Trained {
    std::map<std::string, at::Tensor> weights;
    std::vector<Metrics> steps;
  };
  const auto evaluated = test::random_groups(GetParam(), 8, 99);
  for (const plan::ParallelOptions& parallel : meshes()) {
    SCOPED_TRACE(to_string(parallel));
    const auto train = [&](bool evaluates) {
      return on_ranks(config_of(GetParam(), parallel), [&](Trainer& trainer) {
        Trained trained;
        const auto step = [&](uint64_t index) {
          return std::make_shared<const std::vector<data::Group>>(test::random_groups(GetParam(), 5, 40 + index));
        };
        if (evaluates) trainer.evaluate(evaluated);
        auto next = step(0);
        for (uint64_t i = 0; i < 3; ++i) {
          const auto groups = next;
          trainer.plan_ahead(next = step(i + 1));
          trained.steps.push_back(trainer.step(*groups).values);
          if (evaluates) trainer.evaluate(evaluated);
        }
        trained.weights = trainer.gather_weights();
        return trained;
      });
    };
    const Trained with = train(true), without = train(false);
    ASSERT_FALSE(without.weights.empty());
    for (const auto& [name, weight] : without.weights) EXPECT_TRUE(at::equal(with.weights.at(name), weight)) << name;
    for (size_t s = 0; s < without.steps.size(); ++s)
      for (const auto& [name, value] : without.steps[s]) {
        const bool is_traffic = name.starts_with("comm/") && s > 0;  // the first step has what came before it
        if (test::is_about_layout(name) && !is_traffic && name != "tokens_computed") continue;
        if (name == "mfu") continue;
        EXPECT_EQ(with.steps[s].at(name), value) << name << ", step " << s + 1;
      }
  }
}

INSTANTIATE_TEST_SUITE_P(Methods, Evaluation,
                         ::testing::ValuesIn({Method::kSft, Method::kDpo, Method::kReward, Method::kGrpo}),
                         [](const auto& info) { return std::string(name_of(info.param)); });

TEST(EvaluationOfNothing, HasEveryName) {
  const Metrics none = on_ranks(config_of(Method::kDpo, mesh(2, 1, 1, 1)),
                                [&](Trainer& trainer) { return trainer.evaluate({}).values; });
  for (const char* name : {"eval_loss", "eval_rewards/accuracies", "eval_runtime"})
    EXPECT_TRUE(none.contains(name)) << name;
}

TEST(EvaluationUnderWay, IsWhereAFlightRecordSaysTheRankStands) {
  const std::string record = on_ranks(config_of(Method::kSft, mesh(1, 1, 1, 1)), [&](Trainer& trainer) {
    trainer.step(test::random_groups(Method::kSft, 3, 1));
    trainer.evaluate(test::random_groups(Method::kSft, 7, 2));
    return trainer.world().flight_record();
  });
  test::expect_words(record, {"evaluation after step 1, batch 3 of 3, op "});
}

TEST(EvaluationOfOnesOwnLoss, HasNoPerplexity) {
  const auto groups = test::random_groups(Method::kSft, 4, 5);
  const Metrics own = on_ranks(config_of(Method::kSft, mesh(1, 1, 1, 1)), [&](Trainer& trainer) {
    trainer.set_loss([](const loss::Edges& edges, const plan::StepTotals&) {
      return loss::LossOutput{.loss = edges.logp.square().sum(), .metrics = {}};
    });
    return trainer.evaluate(groups).values;
  });
  EXPECT_FALSE(own.contains("eval_perplexity"));
  EXPECT_GT(own.at("eval_loss"), 0);
}

TEST(EvaluationGroups, AreCheckedAsAStepsAre) {
  const auto groups = [](int rank, uint64_t seed) {
    return test::random_groups(Method::kDpo, 4, seed + static_cast<uint64_t>(rank));
  };
  test::expect_words(test::error_on_ranks<DataError>(2,
                                                     [&](comm::World& world) {
                                                       NullLog log;
                                                       Trainer trainer(world, config_of(Method::kDpo, mesh(2, 1, 1, 1)),
                                                                       log);
                                                       trainer.evaluate(groups(world.rank(), 1));
                                                     }),
                     {"evaluation after step 0, batch 1 of 2: the ranks were given different samples", "evaluate()"});
  test::expect_words(test::error_on_ranks<DataError>(1,
                                                     [&](comm::World& world) {
                                                       NullLog log;
                                                       Trainer trainer(world, config_of(Method::kDpo, mesh(1, 1, 1, 1)),
                                                                       log);
                                                       auto wrong = groups(0, 1);
                                                       wrong[2].sample.pop_back();
                                                       trainer.evaluate(wrong);
                                                     }),
                     {"group 2 of the step has 1 samples"});
}

TEST(EvaluationReport, HasTrlsNames) {
  const Metrics report = report_evaluation({.metrics = {{"loss", 0.5}, {"rewards/accuracies", 0.75}},
                                            .totals = {.groups = 10, .tokens_logical = 300, .tokens_computed = 100},
                                            .seconds = 2,
                                            .is_mean_nll = true});
  const Metrics expected{
      {"eval_loss", 0.5},       {"eval_rewards/accuracies", 0.75}, {"eval_perplexity", std::exp(0.5)},
      {"eval_runtime", 2},      {"eval_samples_per_second", 5},    {"eval_tokens_per_second", 150},
      {"eval_sharing_ratio", 3}};
  EXPECT_EQ(report, expected);
}

}  // namespace
}  // namespace fpdist::trainer
