// fpdist_export makes the model of a run's end from its checkpoint, whatever mesh has saved it, byte for byte. The
// models stay in the build folder, each with our logits beside, for tests/golden/check_export.py.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "fpdist/checkpoint/hf_directory.hpp"
#include "src/main/export/export_model.hpp"
#include "tests/model/export_logits.hpp"
#include "tests/trainer/run/places.hpp"
#include "tests/trainer/run/runs.hpp"

namespace fpdist::main_program {
namespace {

namespace fs = std::filesystem;
using test::Place, test::slurp;

class ExportFrom : public test::Runs, public ::testing::WithParamInterface<Place> {
 protected:
  /// Seeded, with biases and norms off their trivial values.
  void write_model(const std::string& path, const std::string& family, Head head) const {
    arch::Model shape = arch::model_of_shape(
        family,
        {.layers = 4, .hidden = 32, .intermediate = 40, .heads = 4, .kv_heads = 2, .head_dim = 8, .vocab = 320});
    model::Transformer model = test::make_model(shape, at::kFloat, head);
    test::randomize(model, 5);
    checkpoint::NamedTensors tensors;
    for (const auto& parameter : model.parameters()) tensors.emplace_back(parameter->name, parameter->value.detach());
    checkpoint::export_hf_directory(
        path, tensors,
        {.config_json = arch::export_config_json(shape, {.dtype = "float32", .head = head}), .copy_from = ""});
  }
  /// Two steps from the model, and what is exported from the checkpoint behind them.
  void train_and_export(const std::string& model, const std::string& exported, Head head) {
    const Place& place = GetParam();
    config::Config config = place.of(in("run", config_));
    config.method = head == Head::kScore ? Method::kReward : Method::kDpo;
    config.model.preset = "", config.model.path = model, config.model.dtype = DType::kFloat32;
    config.train.max_steps = 2, config.train.groups_per_step = 8, config.train.final_dtype = "float32";
    fs::remove_all(config.train.output_dir), fs::remove_all(exported);
    run(config, place.mesh.size());
    export_model({.from = scratch_ / "run/checkpoint-2",
                  .to = exported,
                  .dtype = std::nullopt,
                  .max_shard_bytes = int64_t{1} << 30});
    const std::string final = scratch_ / "run/final";
    ASSERT_EQ(test::names_in(exported), test::names_in(final));
    for (const std::string& name : test::names_in(final))
      EXPECT_TRUE(slurp(exported + "/" + name) == slurp(final + "/" + name)) << name;
    EXPECT_FALSE(slurp(exported + "/model.safetensors") == slurp(model + "/model.safetensors"))
        << "nothing was learned";
  }
  static void write_logits_of(const std::string& exported, Head head) {
    const checkpoint::HfDirectory directory(exported);
    model::Transformer model =
        test::make_model(arch::parse_model_config(directory.config_json(), directory.config_path()), at::kFloat, head);
    test::load(model, directory);
    test::write_logits(model, head, exported);
  }
};

TEST_P(ExportFrom, IsTheRunsOwnModelOfEveryFamily) {
  const fs::path folder = fs::path(FPDIST_BINARY_DIR) / "mesh_export";
  for (const std::string family : {"llama", "qwen2", "qwen3"})
    for (const Head head : {Head::kLanguageModel, Head::kScore}) {
      const std::string name = (head == Head::kScore ? "score_" : "") + family;
      SCOPED_TRACE(name);
      write_model(scratch_ / name, family, head);
      const std::string exported = (folder / (name + "-float32-" + GetParam().name)).string();
      train_and_export(scratch_ / name, exported, head);
      write_logits_of(exported, head);
    }
}

INSTANTIATE_TEST_SUITE_P(Meshes, ExportFrom,
                         ::testing::Values(test::kTp2Cp2Pp2, test::kDp2Pp4, test::kInterleaved, test::kOneRank),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace fpdist::main_program
