// A training state belongs to no mesh: a run that is saved on one goes on on another, and back, with the same samples
// in every step and the weights of the run that never stopped.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <map>

#include "fpdist/checkpoint/safetensors.hpp"
#include "tests/support/laws/relative_error.hpp"
#include "tests/trainer/run/places.hpp"
#include "tests/trainer/run/runs.hpp"

namespace fpdist::trainer {
namespace {

using test::Place, test::Runs;

constexpr double kTolerance = 1e-9;

class OnAnotherMesh : public Runs, public ::testing::WithParamInterface<Place> {
 protected:
  OnAnotherMesh() {
    config_.train.groups_per_step = 8, config_.data.path = {rows(28)};  // an epoch's last step is short
    static_cast<MeshShape&>(config_.parallel) = {.dp = 8};
  }
};

class Prefixes : public Runs {};

std::map<std::string, at::Tensor> tensors_of(const std::string& path) {
  const checkpoint::SafetensorsFile file(path);
  std::map<std::string, at::Tensor> all;
  for (const auto& [name, info] : file.tensors()) all[name] = file.tensor(name).clone();
  return all;
}

TEST_P(OnAnotherMesh, AndBackItIsTheSameRun) {
  const Place& place = GetParam();
  const Config unbroken = in("unbroken", config_), broken = in("broken", config_);
  run(unbroken, 8);
  run(broken, 8, 3);
  run(place.of(broken), place.mesh.size(), 5);
  if (place.mesh.dp != 8) test::expect_words(said(), {"was saved on ", " and goes on on "});
  run(broken, 8);
  test::expect_words(said(), {"broken/checkpoint-4, after step 4"});

  const auto rows = metrics(broken), wanted = metrics(unbroken);
  ASSERT_EQ(rows.size(), wanted.size());
  for (size_t step = 0; step < rows.size(); ++step) {
    for (const char* exact : {"step", "num_tokens", "tokens_logical", "epoch", "learning_rate"})
      EXPECT_EQ(rows[step].at(exact), wanted[step].at(exact)) << exact;
    for (const char* name : {"loss", "grad_norm", "logps/chosen", "rewards/margins"})
      EXPECT_NEAR(rows[step].at(name).get<double>(), wanted[step].at(name).get<double>(), kTolerance) << name;
  }
  const auto got = tensors_of(scratch_ / "broken/final/model.safetensors");
  for (const auto& [name, tensor] : tensors_of(scratch_ / "unbroken/final/model.safetensors"))
    EXPECT_LT(test::relative_error(got.at(name), tensor), kTolerance) << name;
}

INSTANTIATE_TEST_SUITE_P(Meshes, OnAnotherMesh,
                         ::testing::Values(test::kTp2Cp2Pp2, test::kDp2Pp4, test::kInterleaved,
                                           Place{"tp4_more_ranks_than_heads", {.dp = 1, .tp = 4}}, test::kOneRank),
                         [](const auto& info) { return info.param.name; });

/// Of what stages have copies of one is saved, and stages without weights save none.
TEST_F(Prefixes, GoOnOnOtherStages) {
  config_.train.max_steps = 4, config_.train.save_steps = 1;
  config_.adapter.num_virtual_tokens = 3;
  for (const bool is_projected : {true, false}) {
    config_.adapter.type = is_projected ? "prefix_tuning" : "prompt_tuning";
    config_.adapter.prefix_projection = is_projected;
    const Config unbroken = in(config_.adapter.type, config_);
    Config broken = in(config_.adapter.type + "_broken", config_);
    run(unbroken, 1);
    broken.parallel.pp = 2;
    run(broken, 2, 2);
    broken.parallel.pp = 1;
    run(broken, 1, 3);
    broken.parallel.pp = 4;
    run(broken, 4);
    test::expect_words(said(), {"checkpoint-2, after step 2"});
    const char* file = "/final/adapter_model.safetensors";
    const auto got = tensors_of(broken.train.output_dir + file), wanted = tensors_of(unbroken.train.output_dir + file);
    ASSERT_EQ(wanted.size(), 1U);
    for (const auto& [name, tensor] : wanted) EXPECT_LT(test::relative_error(got.at(name), tensor), kTolerance) << name;
  }
}

}  // namespace
}  // namespace fpdist::trainer
