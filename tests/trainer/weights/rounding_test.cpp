// Exports in another dtype than the run's: masters where they are wider, and a word where bfloat16 drops what was
// learned.

#include "src/trainer/weights/rounding.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <tuple>

#include "fpdist/checkpoint/hf_directory.hpp"
#include "fpdist/core/error.hpp"
#include "fpdist/trainer/trainer.hpp"
#include "src/trainer/weights/weights.hpp"
#include "tests/support/files/scratch.hpp"
#include "tests/support/random/random_groups.hpp"
#include "tests/support/words/error_of.hpp"
#include "tests/support/words/heard_log.hpp"

namespace fpdist::trainer {
namespace {

Config config_of(DType dtype, const std::string& final_dtype, double learning_rate) {
  at::set_num_threads(1);
  Config config;
  config.method = Method::kSft;
  config.model.preset = "tiny";
  config.model.dtype = dtype;
  config.data.path = {"none"};
  config.optim.learning_rate = learning_rate;
  config.train.final_dtype = final_dtype;
  return config;
}

using Tensors = std::map<std::string, at::Tensor>;

class Exported : public ::testing::Test {
 protected:
  /// Steps on `ranks` ranks and saves; what the directory holds.
  Tensors weights_after(Config config, int ranks, int steps = 3) {
    std::string said;
    comm::run_threads(ranks, [&](comm::World& world) {
      test::HeardLog log;
      Trainer trainer(world, config, log);
      for (int step = 0; step < steps; ++step) trainer.step(test::random_groups(Method::kSft, 4, 3));
      trainer.save(scratch_ / "final");
      if (world.rank() == 0) said = log.said();
    });
    said_ = said;
    const checkpoint::SafetensorsFile file(scratch_ / "final/model.safetensors");
    Tensors all;
    for (const auto& [name, info] : file.tensors()) all[name] = file.tensor(name).clone();
    return all;
  }
  std::string dtype_in_config() const {
    return nlohmann::json::parse(test::slurp(scratch_ / "final/config.json"))["torch_dtype"];
  }
  const test::Scratch scratch_;
  std::string said_;
};

TEST_F(Exported, MastersComeOutOfABfloat16RunOnEveryMesh) {
  // Where gradients are no more than their rounding AdamW may go either way: three steps of the learning rate and a
  // bit.
  constexpr double kMostApart = 2 * 3 * 1.1e-4;
  Config config = config_of(DType::kBFloat16, "float32", 1e-4);
  const Tensors wide = weights_after(config, 1);
  EXPECT_EQ(dtype_in_config(), "float32");
  EXPECT_EQ(said_.find("warning"), std::string::npos) << said_;
  config.train.final_dtype = "auto";
  const Tensors narrow = weights_after(config, 1);
  EXPECT_EQ(dtype_in_config(), "bfloat16");
  ASSERT_EQ(wide.size(), narrow.size());
  int64_t finer = 0;
  for (const auto& [name, value] : wide) {
    ASSERT_EQ(value.scalar_type(), at::kFloat) << name;
    EXPECT_TRUE(at::equal(value.to(at::kBFloat16), narrow.at(name))) << name;
    finer += value.ne(value.to(at::kBFloat16)).sum().item<int64_t>();
  }
  EXPECT_GT(finer, 100000) << "masters are no rounded values";

  config.train.final_dtype = "float32";
  for (const auto& [dp, pp, tp] : {std::tuple(2, 1, 1), std::tuple(1, 2, 1), std::tuple(1, 1, 2)}) {
    SCOPED_TRACE(::testing::Message() << "dp " << dp << " pp " << pp << " tp " << tp);
    config.parallel.dp = dp, config.parallel.pp = pp, config.parallel.tp = tp;
    for (const auto& [name, value] : weights_after(config, dp * pp * tp))
      EXPECT_TRUE(at::allclose(value, wide.at(name), 1e-3, kMostApart))
          << name;  // steps of 1e-4, sums in another order
  }
}

TEST_F(Exported, ABfloat16RunGoesOnFromExportedMasters) {
  Config config = config_of(DType::kBFloat16, "float32", 1e-5);
  const Tensors first = weights_after(config, 1);
  std::filesystem::rename(scratch_ / "final", scratch_ / "before");
  config.model.preset.clear(), config.model.path = scratch_ / "before";
  for (const auto& [dp, pp, tp] :
       {std::tuple(1, 1, 1), std::tuple(2, 1, 1), std::tuple(1, 2, 1), std::tuple(1, 1, 2)}) {
    SCOPED_TRACE(::testing::Message() << "dp " << dp << " pp " << pp << " tp " << tp);
    config.parallel.dp = dp, config.parallel.pp = pp, config.parallel.tp = tp;
    for (const auto& [name, value] : weights_after(config, dp * pp * tp, 0))
      EXPECT_TRUE(at::equal(value, first.at(name))) << name;
  }
  comm::run_threads(1, [&](comm::World& world) {
    NullLog log;
    config.parallel = {};
    Trainer trainer(world, config, log);
    for (const auto& [name, gradient] : trainer.gather_gradients())
      EXPECT_EQ(gradient.abs().max().item<double>(), 0) << name << ": no step has been";
  });
}

TEST_F(Exported, AFloat32RunMayExportBfloat16) {
  const Tensors narrow = weights_after(config_of(DType::kFloat32, "bfloat16", 1e-2), 1);
  const Tensors wide = weights_after(config_of(DType::kFloat32, "auto", 1e-2), 1);
  for (const auto& [name, value] : wide) EXPECT_TRUE(at::equal(value.to(at::kBFloat16), narrow.at(name))) << name;
}

TEST_F(Exported, SmallUpdatesThatBfloat16DropsAreSaid) {
  weights_after(config_of(DType::kBFloat16, "auto", 1e-6), 2);
  test::expect_words(said_, {"warning", "final is bfloat16, which rounds ", " % of the weights that training moved",
                             "train.final_dtype: float32"});
  weights_after(config_of(DType::kBFloat16, "auto", 1e-2), 1);
  EXPECT_EQ(said_.find("bfloat16, which"), std::string::npos) << said_;
  weights_after(config_of(DType::kBFloat16, "float32", 1e-6), 1);
  EXPECT_EQ(said_.find("bfloat16, which"), std::string::npos) << said_;
  weights_after(config_of(DType::kFloat32, "bfloat16", 1e-6), 1);
  test::expect_words(said_, {"final is bfloat16, which rounds "});
  weights_after(config_of(DType::kBFloat16, "auto", 1e-6), 1, 0);
  EXPECT_EQ(said_.find("bfloat16, which"), std::string::npos) << "nothing moved: " << said_;
}

TEST_F(Exported, GradientsWhosePlaceMastersTookAreRefused) {
  comm::run_threads(1, [&](comm::World& world) {
    NullLog log;
    Trainer trainer(world, config_of(DType::kBFloat16, "float32", 1e-3), log);
    const auto groups = test::random_groups(Method::kSft, 4, 3);
    trainer.step(groups);
    EXPECT_FALSE(trainer.gather_gradients().empty());
    trainer.save(scratch_ / "final");
    test::expect_words(test::error_of<ShapeError>([&] { trainer.gather_gradients(); }), {"gradients are gone"});
    const double loss = trainer.step(groups).values.at("loss");
    EXPECT_TRUE(std::isfinite(loss));
    EXPECT_FALSE(trainer.gather_gradients().empty());
  });
}

TEST(Rounding, CountsWhatMovedAndWhatOfItBfloat16Forgets) {
  const at::Tensor first = at::tensor({1.0, 1.0, 1.0, -2.0}), now = at::tensor({1.0, 1.0001, 1.1, -2.0001});
  const at::Tensor counts = moved_and_lost(first, now);
  EXPECT_EQ(counts[0].item<int64_t>(), 3);
  EXPECT_EQ(counts[1].item<int64_t>(), 2);
  EXPECT_EQ(Rounding().share(), 0.0);
  EXPECT_EQ(sample_of(at::zeros({10})).numel(), 10);
  EXPECT_EQ(sample_of(at::zeros({0})).numel(), 0);
  EXPECT_LE(sample_of(at::zeros({1 << 20})).numel(), 1 << 15);
}

TEST(Rounding, TheSampledShareIsTheWholeShare) {
  Config config = config_of(DType::kBFloat16, "auto", 2e-5);
  comm::run_threads(2, [&](comm::World& world) {
    NullLog log;
    const Job job(world, config, log);
    Weights weights(job);
    const at::Tensor first = weights.parameters().value().clone();
    weights.begin_step();
    weights.parameters().main_grad().normal_();
    weights.complete(weights.all());
    weights.update({.factor = 1});
    const at::Tensor moved = weights.parameters().value().ne(first);
    const Rounding rounding = weights.rounding();
    const double kept = moved.to(at::kDouble).mean().item<double>();  // the master of every weight moved
    EXPECT_NEAR(rounding.share(), 1 - kept, 0.02);
    EXPECT_GT(rounding.share(), 0.1);
    EXPECT_LT(rounding.share(), 0.999);
  });
}

}  // namespace
}  // namespace fpdist::trainer
