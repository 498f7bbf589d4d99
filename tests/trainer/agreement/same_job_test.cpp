#include "src/trainer/agreement/same_job.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "fpdist/arch/model.hpp"
#include "fpdist/config/command_line.hpp"
#include "fpdist/core/error.hpp"
#include "fpdist/trainer/trainer.hpp"
#include "src/config/keys.hpp"
#include "src/trainer/weights/load_model.hpp"
#include "tests/support/config/change.hpp"
#include "tests/support/files/scratch.hpp"
#include "tests/support/ranks/error_on_ranks.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::trainer {
namespace {

namespace fs = std::filesystem;

/// What all of three ranks say when the last one has `other`.
template <typename ErrorType, typename Value>
std::string said(const Value& value, const Value& other, void (*check_same)(const Value&, comm::Communicator&)) {
  return test::error_on_ranks<ErrorType>(
      3, [&](comm::World& world) { check_same(world.rank() == 2 ? other : value, world.communicator()); });
}

TEST(SameJob, EveryKeyThatDiffersIsFoundAndNamed) {
  const auto values = config::key_values(Config());
  for (size_t k = 0; k < config::keys().size(); ++k) {
    const config::ConfigKey& key = config::keys()[k];
    Config other;
    test::change(key.field(other));
    EXPECT_EQ(said<ConfigError>(Config(), other, check_same_options),
              text("the ranks were given different options:\n", key.name, ": ", values[k].second, " on ranks 0-1, ",
                   config::key_values(other)[k].second,
                   " on rank 2\nstart every rank with the same file and the same command line"));
  }
}

TEST(SameJob, WhatTheOptionsCameToIsComparedAsWell) {
  config::Settled job, other;
  other.config.model.device = "cuda";
  test::expect_words(said<ConfigError>(job, other, check_same_settled), {"model.device: ", "\"cuda\" on rank 2"});
  other = job;
  other.costs.per_edge += 1, other.costs.recompute = true;
  test::expect_words(
      said<ConfigError>(job, other, check_same_settled),
      {"\nplan.costs: per_edge: 128212 on ranks 0-1, 128213 on rank 2", "\nplan.costs: recompute: false on"});
}

/// A model's folder on each of two nodes, and a job that reads it.
class SameModel : public ::testing::Test {
 protected:
  SameModel() {
    for (const char* node : {"a", "b"}) {
      fs::create_directories(scratch_ / node);
      write(node, "config.json", config_json_.dump());
      write(node, "tokenizer.json", "{}");
      write(node, "generation_config.json", "{}");
      write(node, "README.md", node);  // no file of the model
    }
  }
  void write(const std::string& node, const std::string& name, const std::string& bytes) const {
    test::spill(scratch_ / (node + "/" + name), bytes);
  }
  config::Settled job_of(const std::string& node) const {
    config::Settled job;
    job.config.model.path = scratch_ / node;
    job.model.json = test::slurp(scratch_ / (node + "/config.json"));
    return job;
  }
  std::string refusal() const { return said<ModelFileError>(job_of("a"), job_of("b"), check_same_model); }

  const test::Scratch scratch_;
  nlohmann::json config_json_ =
      nlohmann::json::parse(arch::export_config_json(arch::preset_config("tiny"), {.dtype = "float32"}));
};

TEST_F(SameModel, EveryFieldOfConfigJsonThatDiffersIsFoundAndNamed) {
  for (const auto& [field, value] : config_json_.items()) {
    nlohmann::json other = config_json_;
    other[field] = value.is_number() ? nlohmann::json(value.get<double>() + 1) : nlohmann::json("another");
    write("b", "config.json", other.dump());
    test::expect_words(
        refusal(), {text("\nconfig.json: ", field, ": ", value.dump().substr(0, 50)), "on ranks 0-1, ", "on rank 2"});
    other.erase(field);
    write("b", "config.json", other.dump());
    test::expect_words(refusal(), {text("\nconfig.json: ", field, ": "), "nothing on rank 2"});
  }
}

TEST_F(SameModel, TokenizerAndGenerationFilesAreCompared) {
  for (const char* name : {"tokenizer.json", "generation_config.json", "vocab.json"}) {
    write("b", name, "[]");
    test::expect_words(refusal(), {text("\n", name, ": "), "on rank 2"});
    fs::remove(scratch_ / (std::string("b/") + name));
    if (fs::exists(scratch_ / (std::string("a/") + name))) {
      test::expect_words(refusal(), {text("\n", name, ": checksum "), "nothing on rank 2"});
      write("b", name, "{}");
    }
  }
}

TEST_F(SameModel, AnotherTokenizersFilesAreComparedAsWell) {
  config::Settled job, other;
  job.config.data.tokenizer = scratch_ / "a", other.config.data.tokenizer = scratch_ / "b";
  write("b", "tokenizer.json", "[]");
  test::expect_words(said<ModelFileError>(job, other, check_same_model),
                     {"data.tokenizer ", "\ntokenizer.json: checksum ", "on rank 2"});
}

// What mpirun's ranks of two nodes may have: the trainer is asked as a whole.
class DifferingRanks : public ::testing::Test {
 protected:
  DifferingRanks() {
    config_.method = Method::kSft;
    config_.model.preset = "tiny";
    config_.data.path = {"unused"};
  }
  /// `change` is made to the last rank's config.
  template <typename ErrorType>
  std::string refusal(int ranks, const std::function<void(Config&)>& change) const {
    return test::error_on_ranks<ErrorType>(ranks, [&](comm::World& world) {
      Config config = config_;
      if (world.rank() == ranks - 1) change(config);
      NullLog log;
      Trainer(world, config, log);
    });
  }
  const test::Scratch scratch_;
  Config config_;
};

TEST_F(DifferingRanks, OptionsAreAgreedOnBeforeTheMeshIsMade) {
  test::expect_words(refusal<ConfigError>(2, [](Config& config) { config.parallel.pp = 2; }),
                     {"parallel.pp: 1 on rank 0, 2 on rank 1"});
  test::expect_words(refusal<ConfigError>(2, [](Config& config) { config.method = Method::kDpo; }),
                     {"method: sft on rank 0, dpo on rank 1"});
}

TEST_F(DifferingRanks, AnOlderExportOnOneNodeIsFoundOnEveryAxis) {
  NullLog log;
  for (const char* node : {"old", "new"}) {
    config_.model.seed += 1;
    comm::run_threads(1, [&](comm::World& world) { Trainer(world, config_, log).save(scratch_ / node); });
  }
  for (int MeshShape::*axis : {&MeshShape::dp, &MeshShape::pp, &MeshShape::cp, &MeshShape::tp}) {
    MeshShape mesh{.dp = 1};
    mesh.*axis = 2;
    SCOPED_TRACE(to_string(mesh));
    static_cast<MeshShape&>(config_.parallel) = mesh;
    const config::Settled job = config::settle(config_, 2);
    const std::string what = test::error_on_ranks<ModelFileError>(2, [&](comm::World& world) {
      const comm::Mesh axes(world, mesh);
      Config own = job.config;  // as if both had the same path
      own.model.path = scratch_ / (world.rank() == 0 ? "new" : "old");
      (void)load_model(own, job.model, axes, at::kCPU);
    });
    test::expect_words(what, {"different weights", ": values other than rank 0's on rank 1"});
  }
}

}  // namespace
}  // namespace fpdist::trainer
