// Steps whose numbers are not finite, or whose gradients are far above the usual: they change nothing, on every mesh,
// and are told and written down.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "fpdist/config/command_line.hpp"
#include "fpdist/core/error.hpp"
#include "fpdist/data/loader.hpp"
#include "fpdist/loss/spec.hpp"
#include "fpdist/trainer/trainer.hpp"
#include "src/config/read_data.hpp"
#include "tests/support/files/scratch.hpp"
#include "tests/support/random/random_groups.hpp"
#include "tests/support/ranks/error_on_ranks.hpp"
#include "tests/support/words/error_of.hpp"
#include "tests/trainer/tiny_config.hpp"

namespace fpdist::trainer {
namespace {

using test::expect_words;
using NamedWeights = std::map<std::string, at::Tensor>;

class Lines final : public LogSink {
 public:
  void write(LogLevel level, std::string_view line) override {
    const std::lock_guard lock(mutex_);
    if (level == LogLevel::kWarning) all_ += std::string(line) + "\n";
  }
  std::string all() const { return all_; }

 private:
  std::mutex mutex_;
  std::string all_;
};

constexpr int32_t kPoisoned = 63;  // a token whose embedding is not finite

std::vector<data::Group> groups_of(Method method, uint64_t seed) {
  return test::random_groups(method, 6, seed, kPoisoned);  // without it
}

std::vector<data::Group> poisoned(Method method, uint64_t seed) {
  std::vector<data::Group> groups = groups_of(method, seed);
  for (const size_t g : {2, 3, 4})
    for (data::Sample& sample : groups[g].sample) sample.token.front() = kPoisoned;
  return groups;
}

/// Groups as rows of token ids can say them, with a poisoned one.
std::vector<data::Group> rows_of(Method method) {
  std::vector<data::Group> groups(6);
  const int members = method == Method::kSft ? 1 : method == Method::kGrpo ? 3 : 2;
  for (int32_t g = 0; g < 6; ++g) {
    groups[static_cast<size_t>(g)].id = g;
    for (int32_t m = 0; m < members; ++m) {
      data::Sample sample;
      sample.token = {g == 3 ? kPoisoned : 5, 6, 7 + g, 20 + m, 30 + g};
      sample.target = {data::kIgnore, data::kIgnore, data::kIgnore, 20 + m, 30 + g};
      sample.prompt_length = method == Method::kSft ? 0 : 3;
      if (method == Method::kGrpo) sample.reward = m % 2;
      groups[static_cast<size_t>(g)].sample.push_back(std::move(sample));
    }
  }
  return groups;
}

/// The embedding of kPoisoned is NaN, on whichever rank has it.
void poison(Trainer& trainer) {
  for (const auto& parameter : trainer.parameters().parameters()) {
    if (parameter->name != "model.embed_tokens.weight") continue;
    const at::NoGradGuard writing;
    const ops::Sharding& sharding = parameter->sharding;
    const int64_t row = sharding.dim == 0 ? kPoisoned - sharding.begin : kPoisoned;
    if (row >= 0 && row < parameter->value.size(0)) parameter->value.select(0, row).fill_(std::nan(""));
  }
}

Config config_of(Method method, int dp, int pp, int tp) {
  Config config = test::tiny_config(method);
  config.train.max_steps = 10, config.train.on_nan = "skip";
  config.parallel.dp = dp, config.parallel.pp = pp, config.parallel.tp = tp;
  return config;
}

struct Ended {
  NamedWeights weights;
  std::vector<double> skipped;
  std::string warnings;
};

/// Steps of the `seeds`, those below 0 with a poisoned token among them.
Ended train(const Config& config, const std::vector<int>& seeds) {
  at::set_num_threads(1);
  Ended ended;
  comm::run_threads(config.parallel.size(), [&](comm::World& world) {
    Lines log;
    Trainer trainer(world, config, log);
    poison(trainer);
    std::vector<double> skipped;
    for (const int seed : seeds) {
      const auto number = static_cast<uint64_t>(std::abs(seed));
      const auto groups = seed < 0 ? poisoned(config.method, number) : groups_of(config.method, number);
      skipped.push_back(trainer.step(groups).values.at("skipped_steps"));
    }
    auto weights = trainer.gather_weights();
    if (world.rank() == 0) ended = {.weights = std::move(weights), .skipped = skipped, .warnings = log.all()};
  });
  return ended;
}

TEST(LeftOut, AStepChangesNeitherWeightsNorMomentsNorTheOptimizersCount) {
  for (const Method method : {Method::kSft, Method::kDpo})
    for (const auto& [dp, pp, tp] : {std::tuple(1, 1, 1), {3, 1, 1}, {1, 2, 2}}) {
      SCOPED_TRACE(text(name_of(method), ", dp ", dp, " pp ", pp, " tp ", tp));
      Config config = config_of(method, dp, pp, tp);
      config.optim.lr_scheduler_type = "constant";  // the schedule counts steps of the run
      const Ended with = train(config, {1, -2, 3, -4, 5}), without = train(config, {1, 3, 5});
      EXPECT_EQ(with.skipped, (std::vector<double>{0, 1, 1, 2, 2}));
      for (const auto& [name, weight] : without.weights)
        EXPECT_TRUE(at::allclose(with.weights.at(name), weight, 0, 0, /*equal_nan=*/true)) << name;
      expect_words(with.warnings, {"step 2: the loss is nan on rank ", " in pack ", "samples (group.index) ",
                                   "the first rows that are not finite come out of model.embed_tokens of pack ",
                                   "on rank ", "(1 of 10 in this run)", "step 4: "});
    }
}

TEST(LeftOut, TheFirstLayerThatIsNotFiniteIsNamed) {
  for (const int pp : {1, 2}) {
    Config config = config_of(Method::kSft, 1, pp, 1);
    config.train.on_nan = "stop";
    const std::string what = test::error_on_ranks<NumericsError>(pp, [&](comm::World& world) {
      Lines log;
      Trainer trainer(world, config, log);
      for (const auto& parameter : trainer.parameters().parameters())
        if (parameter->name == "model.layers.2.mlp.up_proj.weight") {
          const at::NoGradGuard writing;
          parameter->value.fill_(INFINITY);
        }
      trainer.step(groups_of(Method::kSft, 1));
    });
    expect_words(what, {"step 1: the loss is nan", "come out of model.layers.2 of pack 0", "train.on_nan is stop",
                        "lower optim.learning_rate"});
  }
}

TEST(LeftOut, ALossThatIsNotFiniteBehindAFiniteForwardIsSaidToBe) {
  const Config config = config_of(Method::kSft, 1, 1, 1);
  comm::run_threads(1, [&](comm::World& world) {
    Lines log;
    Trainer trainer(world, config, log);
    trainer.set_loss([](const loss::Edges& edges, const plan::StepTotals&) {
      return loss::LossOutput{.loss = (edges.logp.sum() * 1e200).mul(1e200).mul(0), .metrics = {}};
    });
    trainer.step(groups_of(Method::kSft, 1));
    expect_words(log.all(), {"step 1: the loss is nan", "; the rows of every layer are finite: the step is left out"});
  });
}

TEST(LeftOut, TooManyEndTheRun) {
  Config config = config_of(Method::kSft, 2, 1, 1);
  config.train.max_skipped = 1;
  const std::string what = test::error_on_ranks<NumericsError>(2, [&](comm::World& world) {
    Lines log;
    Trainer trainer(world, config, log);
    poison(trainer);
    trainer.step(poisoned(Method::kSft, 1));
    trainer.step(groups_of(Method::kSft, 2));
    trainer.step(poisoned(Method::kSft, 3));
  });
  expect_words(what, {"step 3: the loss is nan", "(1 steps were left out before, train.max_skipped is 1)"});
}

TEST(LeftOut, ASpikeIsAgainstTheUsualNorm) {
  Config config = config_of(Method::kSft, 2, 1, 1);
  config.optim.learning_rate = 0;
  config.train.max_steps = 40, config.train.on_spike = "skip", config.train.spike_factor = 3;
  comm::run_threads(2, [&](comm::World& world) {
    Lines log;
    Trainer trainer(world, config, log);
    double scale = 1;
    trainer.set_loss([&](const loss::Edges& edges, const plan::StepTotals& totals) {
      return loss::LossOutput{.loss = edges.logp.sum() * (scale / static_cast<double>(totals.edges)), .metrics = {}};
    });
    const auto groups = groups_of(Method::kSft, 1);
    for (int step = 0; step < 12; ++step) trainer.step(groups);
    scale = 2.9;
    EXPECT_EQ(trainer.step(groups).values.at("skipped_steps"), 0);
    scale = 3.1;
    EXPECT_EQ(trainer.step(groups).values.at("skipped_steps"), 1);
    expect_words(log.all(), {"step 14: the gradient norm is ", "more than train.spike_factor 3 times the usual ",
                             "the step is left out"});
  });
}

/// Virtual tokens are rows of the step and none of its data.
TEST(LeftOut, AStepBehindVirtualTokensIsWrittenDownWithoutThem) {
  const test::Scratch scratch;
  Config config = config_of(Method::kSft, 1, 1, 1);
  config.adapter.type = "prompt_tuning", config.adapter.num_virtual_tokens = 3;
  config.adapter.prefix_by = "context", config.adapter.context_dim = 2;
  std::vector<data::Group> groups = rows_of(Method::kSft);
  for (data::Group& group : groups) group.prefix_context = {0.1F, static_cast<float>(group.id)};
  comm::run_threads(1, [&](comm::World& world) {
    Lines log;
    Trainer trainer(world, config, log);
    trainer.set_output_dir(scratch.path());
    trainer.set_loss([](const loss::Edges& edges, const plan::StepTotals&) {
      return loss::LossOutput{.loss = edges.logp.sum() * std::nan(""), .metrics = {}};
    });
    trainer.step(groups);
  });
  std::ifstream rows(scratch / "step-1.rows.jsonl");
  for (const data::Group& group : groups) {
    std::string line;
    ASSERT_TRUE(std::getline(rows, line));
    const auto row = nlohmann::json::parse(line);
    EXPECT_EQ(row["input_ids"], group.sample[0].token);
    EXPECT_EQ(row["labels"], group.sample[0].target);
    EXPECT_EQ(row["context"].get<std::vector<float>>(), group.prefix_context);
  }
}

TEST(LeftOut, AStepIsWrittenDownAndPlannedAgainAsItWas) {
  for (const Method method : {Method::kSft, Method::kDpo, Method::kReward, Method::kGrpo}) {
    SCOPED_TRACE(name_of(method));
    const test::Scratch scratch;
    Config config = config_of(method, 2, 1, 1);
    config.pack.max_tokens = 70;
    const std::vector<data::Group> groups = rows_of(method);
    comm::run_threads(2, [&](comm::World& world) {
      Lines log;
      Trainer trainer(world, config, log);
      trainer.set_output_dir(scratch.path());
      poison(trainer);
      trainer.step(groups);
    });
    const auto plan = nlohmann::json::parse(std::ifstream(scratch / "step-1.plan.json"));
    EXPECT_EQ(plan["step"], 1);
    expect_words(plan["why"], {"step 1: "});
    const Config again = config::parse_command_line({plan["config"].get<std::string>()}).config;
    const config::Settled job = config::settle(again, 2);
    NullLog log;
    const data::Dataset dataset =
        config::read_data(job.config, job.model, config::MayWrite::kNo, config::Keep::kInMemory, log);
    ASSERT_EQ(dataset.size(), 6);
    const data::Loader loader = data::make_loader(dataset, job.config.data, job.config.train.groups_per_step, 0);
    const auto step = data::pick_groups(dataset, loader.step(0));
    for (size_t g = 0; g < groups.size(); ++g)
      for (size_t s = 0; s < groups[g].sample.size(); ++s) {
        EXPECT_EQ(step[g].sample[s].token, groups[g].sample[s].token);
        EXPECT_EQ(step[g].sample[s].reward, groups[g].sample[s].reward);
      }
    const uint64_t hash = plan::make_step_plan(step, loss::spec_of(method, job.config.loss).atomic(),
                                               job.config.parallel, job.costs, job.config.pack)
                              .hash;
    EXPECT_EQ(plan["hash"].get<uint64_t>(), hash);
  }
}

}  // namespace
}  // namespace fpdist::trainer
