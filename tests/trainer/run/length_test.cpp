// How long a run is, and what it learns at: as its options say it, over the data there are.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/trainer/trainer.hpp"
#include "tests/support/files/scratch.hpp"
#include "tests/support/random/random_groups.hpp"
#include "tests/support/words/error_of.hpp"
#include "tests/trainer/tiny_config.hpp"

namespace fpdist::trainer {
namespace {

using test::contains, test::error_of, test::expect_words;

class Length : public ::testing::Test {
 protected:
  Length() {
    at::set_num_threads(1);
    std::ofstream rows(scratch_ / "data.jsonl");
    for (int i = 0; i < 5; ++i)
      rows << R"({"input_ids":[1,2,3,)" << 4 + i << R"(],"labels":[1,2,3,)" << 4 + i << "]}\n";
    rows.close();
    config_ = test::tiny_config(Method::kSft);
    config_.data.path = {scratch_ / "data.jsonl"};
    config_.train = {.groups_per_step = 2, .output_dir = scratch_ / "out"};
  }

  /// Of every step of the run.
  std::vector<StepMetrics> train() {
    std::vector<StepMetrics> steps;
    comm::run_threads(1, [&](comm::World& world) {
      Trainer trainer(world, config_, log_);
      trainer.set_hook([&](const StepMetrics& step) { steps.push_back(step); });
      trainer.train();
    });
    return steps;
  }

  const test::Scratch scratch_;
  Config config_;
  NullLog log_;
};

TEST_F(Length, EpochsComeToStepsOnceTheDataAreKnown) {
  config_.train.num_train_epochs = 1.5, config_.optim.warmup_ratio = 0.3;
  const std::vector<StepMetrics> steps = train();  // 3 steps an epoch: 4.5
  ASSERT_EQ(steps.size(), 5u);
  EXPECT_DOUBLE_EQ(steps.back().values.at("epoch"), 5.0 / 3);
  const std::vector<double> factors{0, 0.5, 1, 2.0 / 3, 1.0 / 3};  // ceil(0.3 x 5) steps of warm-up
  for (size_t i = 0; i < steps.size(); ++i)
    EXPECT_DOUBLE_EQ(steps[i].values.at("learning_rate"), config_.optim.learning_rate * factors[i]);
  std::ifstream file(scratch_ / "out/config.resolved.yaml");
  const std::string resolved{std::istreambuf_iterator<char>(file), {}};
  EXPECT_TRUE(contains(resolved, "max_steps: 5\n")) << resolved;
}

TEST_F(Length, ALoopOfOnesOwnSaysHowLongItIs) {
  config_.train.num_train_epochs = 1;
  const auto groups = test::random_groups(Method::kSft, 2, 1);
  comm::run_threads(1, [&](comm::World& world) {
    Trainer trainer(world, config_, log_);
    expect_words(error_of<ConfigError>([&] { trainer.step(groups); }), {"train.max_steps is 0", "set_max_steps()"});
    expect_words(error_of<ConfigError>([&] { trainer.set_max_steps(0); }), {"0 steps"});
    trainer.set_max_steps(4);
    trainer.step(groups);
    EXPECT_DOUBLE_EQ(trainer.step(groups).values.at("learning_rate"), config_.optim.learning_rate * 3 / 4);
    EXPECT_EQ(trainer.settled().config.train.max_steps, 4);
  });
}

/// Weights after two steps on `ranks` ranks, by name.
std::map<std::string, at::Tensor> trained(const Config& config, int ranks) {
  std::map<std::string, at::Tensor> weights;
  comm::run_threads(ranks, [&](comm::World& world) {
    NullLog log;
    Trainer trainer(world, config, log);
    for (uint64_t step = 0; step < 2; ++step) trainer.step(test::random_groups(config.method, 5, 11 + step));
    auto all = trainer.gather_weights();
    if (world.rank() == 0) weights = std::move(all);
  });
  return weights;
}

TEST(LearningRates, OfPatternsAreThoseOfTheWeightsOnEveryMesh) {
  at::set_num_threads(1);
  Config config = test::tiny_config(Method::kSft);
  const auto start = trained(
      [&] {
        Config still = config;
        still.optim.learning_rate = 0;
        return still;
      }(),
      1);
  const auto plain = trained(config, 1);
  config.optim.learning_rates = {{"*embed_tokens*", "0"}, {"model.layers.1.*", "1e-2"}, {"*.q_proj.*", "1e-4"}};
  const auto one = trained(config, 1);
  EXPECT_TRUE(at::equal(one.at("model.embed_tokens.weight"), start.at("model.embed_tokens.weight")));
  const std::string faster = "model.layers.1.mlp.up_proj.weight";
  EXPECT_GT((one.at(faster) - start.at(faster)).norm().item<double>(),
            5 * (plain.at(faster) - start.at(faster)).norm().item<double>());
  for (const MeshShape& shape : {MeshShape{3, 1, 1, 1}, MeshShape{1, 2, 1, 2}, MeshShape{2, 2, 1, 1}}) {
    static_cast<MeshShape&>(config.parallel) = shape;
    const auto mesh = trained(config, shape.size());
    for (const auto& [name, value] : one)
      EXPECT_LT((mesh.at(name) - value).norm().item<double>(), 1e-9 * (1 + value.norm().item<double>()))
          << name << " on " << to_string(shape);
  }
}

}  // namespace
}  // namespace fpdist::trainer
