#include "fpdist/config/settled.hpp"

#include "src/config/run_length.hpp"
#include "src/plan/costs/costs_file.hpp"
#include "tests/config/config_file.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::config {
namespace {

using test::ConfigFile, test::expect_words;

Config given(Method method) {
  Config config;
  config.method = method;
  config.model.preset = "tiny";
  config.data.path = {"a.jsonl"};
  return config;
}

Config read_back(const std::string& yaml) {
  const ConfigFile file(yaml);
  return parse_command_line({file.path()}).config;
}

std::string refusal(const Config& config, int ranks) {
  return test::refusal<ConfigError>([&] { settle(config, ranks); });
}

TEST(Settled, NothingIsLeftOpen) {
  Config config = given(Method::kGrpo);
  config.parallel.pp = 2;
  config.model.deterministic = false;
  const Settled job = settle(config, 6);
  EXPECT_EQ(job.ranks(), 6);
  EXPECT_EQ(to_string(job.config.parallel), "dp 3 x pp 2 x cp 1 x tp 1");
  EXPECT_EQ(job.config.parallel.layers, (std::vector<int64_t>{2, 2}));
  EXPECT_EQ(job.config.loss.loss_type, std::vector<std::string>{"dapo"});
  EXPECT_EQ(job.config.loss.beta, 0.0);
  EXPECT_EQ(job.config.loss.epsilon_high, job.config.loss.epsilon);
  EXPECT_FALSE(job.config.comm.deterministic);
  EXPECT_EQ(job.model.vocab_size, 320);
  EXPECT_EQ(job.costs.layers, 4);
  EXPECT_EQ(job.cp_costs.max_ulysses, 2);
}

TEST(Settled, TheResolvedFileGivesTheSameJobBack) {
  for (const Method method : {Method::kSft, Method::kDpo, Method::kReward, Method::kGrpo}) {
    SCOPED_TRACE(name_of(method));
    Config config = given(method);
    config.parallel.pp = 2;
    const Settled job = settle(config, 4);
    const std::string resolved = to_yaml(job);
    for (const char* open_word : {"-1", "\"\"", "[]"})
      EXPECT_EQ(resolved.find(open_word), std::string::npos) << resolved;
    const Settled again = settle(read_back(resolved), 4);
    EXPECT_EQ(to_yaml(again), resolved);
    EXPECT_EQ(to_yaml(again.config), to_yaml(job.config));  // what is left out as well
    EXPECT_EQ(plan::to_text(again.costs), plan::to_text(job.costs));
    EXPECT_EQ(to_yaml(settle(job.config, 4)), resolved);
  }
}

TEST(Settled, KeysWithoutAUseAreLeftOut) {
  const std::string sft = to_yaml(settle(given(Method::kSft), 1)), dpo = to_yaml(settle(given(Method::kDpo), 1));
  expect_words(sft, {"preset: \"tiny\"", "loss_type: [\"nll\"]", "dp: 1"});
  for (const char* absent : {"path: \"\"", "\n  beta:", "costs:"})
    EXPECT_EQ(sft.find(absent), std::string::npos) << sft;
  expect_words(dpo, {"beta: 0.1"});
}

TEST(Settled, ARunIsAsLongAsItsStepsOrItsEpochsSay) {
  const auto steps = [](int64_t max_steps, double epochs) {
    Config config = given(Method::kSft);
    config.train.max_steps = max_steps, config.train.num_train_epochs = epochs;
    return steps_of(settle(config, 1).config.train, 7);
  };
  EXPECT_EQ(steps(0, 0), 100);
  EXPECT_EQ(steps(40, 0), 40);
  EXPECT_EQ(steps(0, 3), 21);
  EXPECT_EQ(steps(0, 1.5), 11) << "half a step is a step";
  EXPECT_EQ(steps(0, 0.01), 1);
  EXPECT_EQ(steps(40, 3), 40) << "steps win";
}

TEST(Settled, APatternOfLearningRatesFitsSomeWeight) {
  Config config = given(Method::kSft);
  config.optim.learning_rates = {{"*.layers.3.*", "1e-5"}, {"lm_head.weight", "1e-5"}, {"*norm*", "0"}};
  EXPECT_NO_THROW(settle(config, 1));
  config.optim.learning_rates["*.layers.4.*"] = "1e-5";
  expect_words(refusal(config, 1), {"optim.learning_rates: *.layers.4.* fits no weight of the model"});
}

TEST(Settled, WhatDoesNotFitIsRefused) {
  Config config = given(Method::kDpo);
  config.parallel.tp = 3;
  expect_words(refusal(config, 4), {"parallel", "multiple of 3"});
  expect_words(refusal(config, 3), {"parallel.tp: 3 does not fit"});
  config = given(Method::kDpo);
  config.parallel.cp = 4, config.parallel.ulysses = 4;
  expect_words(refusal(config, 4), {"ulysses"});
  config = given(Method::kDpo);
  config.parallel.layers = {3};
  expect_words(refusal(config, 1), {"parallel.layers", "adds up to 3"});
  config = given(Method::kDpo);
  config.plan.costs = FPDIST_SOURCE_DIR "/configs/costs/llama3-8b.yaml";
  expect_words(refusal(config, 1), {"is for a model of 32 layers"});
  config = given(Method::kDpo);
  config.model = {.path = "no/such/directory", .preset = ""};
  EXPECT_THROW(settle(config, 1), ModelFileError);
}

}  // namespace
}  // namespace fpdist::config
