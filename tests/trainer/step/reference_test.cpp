// Which model or which log-probs a loss compares with.

#include "src/trainer/step/reference.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/data/reader.hpp"
#include "fpdist/data/tokenizer.hpp"
#include "fpdist/trainer/trainer.hpp"
#include "tests/support/files/scratch.hpp"
#include "tests/support/random/random_groups.hpp"
#include "tests/support/ranks/error_on_ranks.hpp"
#include "tests/support/words/heard_log.hpp"

namespace fpdist::trainer {
namespace {

namespace fs = std::filesystem;
using Metrics = std::map<std::string, double>;

class ReferenceOfARun : public ::testing::Test {
 protected:
  ReferenceOfARun() {
    at::set_num_threads(1);
    config_.method = Method::kDpo;
    config_.model.preset = "tiny";
    config_.model.dtype = DType::kFloat64;
    config_.train.groups_per_step = 3;
    config_.optim = {.learning_rate = 1e-3, .lr_scheduler_type = "constant"};
    config_.data.path = {scratch_ / "rows.jsonl"};
    test::spill(config_.data.path[0], R"({"prompt_ids":[1,2,3],"chosen_ids":[7,8],"rejected_ids":[7,9]}
{"prompt_ids":[1,2,4],"chosen_ids":[7,8,9],"rejected_ids":[7]}
{"prompt_ids":[1,5],"chosen_ids":[3],"rejected_ids":[4,4]})");
  }
  static Config on(Config config, const std::string& model, const std::string& reference) {
    if (!model.empty()) config.model.preset.clear(), config.model.path = model;
    config.model.ref_path = reference;
    return config;
  }
  /// The policy's weights after no step.
  std::string saved(Config config, const std::string& name) {
    comm::run_threads(1, [&](comm::World& world) {
      NullLog log;
      Trainer(world, config, log).save(scratch_ / name);
    });
    return scratch_ / name;
  }
  std::vector<Metrics> run(Config config, int64_t steps, const std::string& output, int ranks = 1) {
    config.train.max_steps = steps, config.train.output_dir = scratch_ / output;
    std::vector<Metrics> all;
    test::HeardLog log;
    comm::run_threads(ranks, [&](comm::World& world) {
      Trainer trainer(world, config, log);
      if (world.rank() == 0) trainer.set_hook([&](const StepMetrics& step) { all.push_back(step.values); });
      trainer.train();
    });
    said_ = log.said();
    return all;
  }

  const test::Scratch scratch_;
  Config config_;
  std::string said_;
};

TEST_F(ReferenceOfARun, StaysTheBaseModelOverGoingOn) {
  const std::string base = saved(config_, "base");
  Config config = on(config_, base, "");
  config.train.save_steps = 4, config.train.save_only_model = true;
  const auto unbroken = run(config, 8, "whole");
  ASSERT_EQ(unbroken.size(), 8U);
  const std::string checkpoint = scratch_ / "whole/checkpoint-4";

  const auto alone = run(on(config_, checkpoint, ""), 1, "alone");
  EXPECT_EQ(alone[0].at("rewards/margins"), 0) << "the checkpoint is its own reference";
  test::expect_words(said_, {"warning model.path", "was written by a run", "model.ref_path names another"});

  for (const int ranks : {1, 2}) {
    const auto continued = run(on(config_, checkpoint, base), 1, text("continued", ranks), ranks);
    EXPECT_EQ(said_.find("was written by a run"), std::string::npos);
    EXPECT_GT(std::abs(unbroken[4].at("rewards/margins")), 1e-4);
    for (const char* name : {"loss", "rewards/margins", "rewards/chosen", "logps/chosen", "grad_norm"})
      EXPECT_NEAR(continued[0].at(name), unbroken[4].at(name), 1e-9) << name;
  }
}

TEST_F(ReferenceOfARun, TravelsThePipelineToo) {
  const std::string base = saved(config_, "base");
  Config other = config_;
  other.model.seed = 5;
  const auto one = run(on(other, saved(other, "other"), base), 2, "one");
  for (const bool precompute : {false, true}) {
    Config config = on(other, scratch_ / "other", base);
    config.parallel.pp = 2, config.loss.precompute_ref_log_probs = precompute;
    const auto two = run(config, 2, text("two", precompute), 2);
    for (size_t step = 0; step < 2; ++step)
      EXPECT_NEAR(two[step].at("rewards/margins"), one[step].at("rewards/margins"), 1e-9);
  }
  EXPECT_GT(std::abs(one[0].at("rewards/margins")), 1e-4) << "another model than the policy";
}

TEST_F(ReferenceOfARun, ServesRolloutsAsWell) {
  const std::string base = saved(config_, "base");
  Config config = config_;
  config.method = Method::kGrpo, config.loss.beta = 0.1, config.model.seed = 5;
  const auto groups = test::random_groups(Method::kGrpo, 3, 1);
  const auto kl = [&](const std::string& reference) {
    double value = 0;
    comm::run_threads(1, [&](comm::World& world) {
      NullLog log;
      value = Trainer(world, on(config, "", reference), log).step(groups).values.at("kl");
    });
    return value;
  };
  EXPECT_NEAR(kl(""), 0, 1e-12);
  EXPECT_GT(kl(base), 1e-4);
}

TEST_F(ReferenceOfARun, IsRefusedWhereItIsAnotherArchitecture) {
  const std::string golden = std::string(FPDIST_SOURCE_DIR) + "/tests/golden/train/model";
  const std::string what = test::error_on_ranks<ModelFileError>(2, [&](comm::World& world) {
    NullLog log;
    Trainer(world, on(config_, "", golden), log);
  });
  test::expect_words(what,
                     {"model.ref_path", "preset tiny", "num_hidden_layers 4 against 2", "vocab_size 320 against 64"});
  const std::string none = test::error_on_ranks<ModelFileError>(1, [&](comm::World& world) {
    NullLog log;
    Trainer(world, on(config_, "", scratch_ / "nowhere"), log);
  });
  test::expect_words(none, {"nowhere"});
}

TEST_F(ReferenceOfARun, ComesFromThePairsThatBringIt) {
  // Sums of the base model's log-probs, as a run without the columns reports them for one pair.
  test::spill(config_.data.path[0], R"({"prompt_ids":[1,2,3],"chosen_ids":[7,8],"rejected_ids":[7,9]})");
  const std::string base = saved(config_, "base");
  Config other = config_;
  other.model.seed = 5, other.train.groups_per_step = 1;
  const std::string policy = saved(other, "other");
  const auto base_alone = run(on(other, base, ""), 1, "base_alone");
  const auto with_model = run(on(other, policy, base), 2, "with_model");
  const auto row = [&](const std::string& columns) {
    test::spill(config_.data.path[0],
                R"({"prompt_ids":[1,2,3],"chosen_ids":[7,8],"rejected_ids":[7,9],)" + columns + "}");
  };
  char sums[200];
  std::snprintf(sums, sizeof sums, R"("ref_chosen_logps":%.17g,"ref_rejected_logps":%.17g)",
                base_alone[0].at("logps/chosen"), base_alone[0].at("logps/rejected"));
  row(sums);
  const auto with_columns = run(on(other, policy, ""), 2, "with_columns");
  for (size_t step = 0; step < 2; ++step)
    for (const char* name : {"loss", "rewards/margins", "grad_norm"})
      EXPECT_NEAR(with_columns[step].at(name), with_model[step].at(name), 1e-9) << name;
  run(on(other, policy, base), 1, "both");
  test::expect_words(said_, {"warning model.ref_path", "is not used: the data bring the reference's log-probs"});
}

TEST_F(ReferenceOfARun, LogProbsThatNobodyReadsAreSaid) {
  Config config = config_;
  config.method = Method::kGrpo;
  test::spill(
      config.data.path[0],
      R"({"prompt_ids":[1],"completions":[{"ids":[2],"reward":1,"ref_logps":[-1]},{"ids":[3],"reward":0,"ref_logps":[-2]}]})");
  run(config, 1, "out");
  test::expect_words(said_, {"warning the data's reference log-probs are not read", "loss.beta"});
}

}  // namespace
}  // namespace fpdist::trainer
