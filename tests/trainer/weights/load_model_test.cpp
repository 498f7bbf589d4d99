// Models of a run: what is loaded, what is seeded, and what is refused.

#include "src/trainer/weights/load_model.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "fpdist/checkpoint/hf_directory.hpp"
#include "fpdist/config/settled.hpp"
#include "fpdist/core/error.hpp"
#include "src/trainer/step/reference.hpp"
#include "tests/support/files/scratch.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::trainer {
namespace {

namespace fs = std::filesystem;

class LoadModel : public ::testing::Test {
 protected:
  LoadModel() {
    preset_.model.preset = "tiny";
    preset_.model.seed = 5;
  }

  static checkpoint::NamedTensors tensors_of(const model::Transformer& model) {
    checkpoint::NamedTensors tensors;
    for (const auto& parameter : model.parameters()) tensors.emplace_back(parameter->name, parameter->value.detach());
    return tensors;
  }

  /// Writes the tiny preset, less the tensor called `without`, and returns the config that loads it.
  Config exported(const std::string& without = "") {
    const arch::Model shape = config::settle(preset_, 1).model;
    checkpoint::NamedTensors tensors = tensors_of(*loaded_by(preset_));
    std::erase_if(tensors, [&](const auto& tensor) { return tensor.first == without; });
    checkpoint::export_hf_directory(
        dir_.string(), tensors,
        {.config_json = arch::export_config_json(shape, {.dtype = "float32"}), .copy_from = ""});
    Config config;
    config.model.path = dir_.string();
    return config;
  }

  /// The one run of layers of a job of one rank.
  static std::unique_ptr<model::Transformer> loaded_by(Config config) {
    std::unique_ptr<model::Transformer> model;
    const config::Settled job = config::settle(std::move(config), 1);
    comm::run_threads(1, [&](comm::World& world) {
      const comm::Mesh mesh(world, job.config.parallel);
      model = std::move(load_model(job.config, job.model, mesh, at::kCPU).front());
    });
    return model;
  }

  Config preset_;
  const test::Scratch scratch_;
  const fs::path dir_ = scratch_ / "model";
};

TEST_F(LoadModel, ADirectoryGivesTheWeightsItHolds) {
  const Config config = exported();
  const auto loaded = loaded_by(config);
  const auto seeded = loaded_by(preset_);
  for (size_t p = 0; p < seeded->parameters().size(); ++p)
    EXPECT_TRUE(at::equal(loaded->parameters()[p]->value, seeded->parameters()[p]->value))
        << seeded->parameters()[p]->name;
}

TEST_F(LoadModel, WeightsThatAreMissingAreListed) {
  const Config config = exported("model.layers.1.mlp.up_proj.weight");
  test::expect_words(test::error_of<ModelFileError>([&] { loaded_by(config); }), {"model.layers.1.mlp.up_proj.weight"});
}

TEST_F(LoadModel, ABaseModelGetsASeededScoreHead) {
  Config config = exported();
  config.method = Method::kReward;
  config.model.seed = 9;
  const auto first = loaded_by(config);
  const auto again = loaded_by(config);
  config.model.seed = 10;
  const auto other = loaded_by(config);
  const auto head = [](const model::Transformer& model) { return model.parameters().back(); };
  EXPECT_EQ(head(*first)->name, model::kScoreWeight);
  EXPECT_TRUE(at::equal(head(*first)->value, head(*again)->value));
  EXPECT_FALSE(at::equal(head(*first)->value, head(*other)->value));
  EXPECT_TRUE(at::equal(first->parameters().front()->value, other->parameters().front()->value));
}

TEST_F(LoadModel, TheFrozenCopyIsEqualAndHasNoGradients) {
  std::vector<std::unique_ptr<model::Transformer>> runs;
  runs.push_back(loaded_by(preset_));
  const Reference reference(frozen_copy(runs));
  const auto &policy = runs.front(), &frozen = reference.runs().front();
  for (size_t p = 0; p < frozen->parameters().size(); ++p) {
    EXPECT_TRUE(at::equal(frozen->parameters()[p]->value, policy->parameters()[p]->value));
    EXPECT_FALSE(frozen->parameters()[p]->main_grad.defined());
  }
}

}  // namespace
}  // namespace fpdist::trainer
