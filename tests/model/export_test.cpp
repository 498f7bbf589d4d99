// Out to a Hugging Face directory and back. The directories stay in the build folder, each with our logits beside, for
// tests/golden/check_export.py.

#include <gtest/gtest.h>

#include <filesystem>

#include "fpdist/checkpoint/hf_directory.hpp"
#include "fpdist/core/error.hpp"
#include "tests/model/export_logits.hpp"

namespace fpdist::model {
namespace {

using test::load, test::make_model, test::randomize, test::small_config, test::write_logits;

namespace fs = std::filesystem;

fs::path scratch() { return fs::path(FPDIST_BINARY_DIR) / "model_export"; }

std::string_view dtype_name(at::ScalarType dtype) {
  return dtype == at::kDouble ? "float64" : dtype == at::kFloat ? "float32" : "bfloat16";
}

void export_model(const Transformer& model, at::ScalarType dtype, const std::string& folder, const std::string& from) {
  checkpoint::NamedTensors tensors;
  for (const auto& parameter : model.parameters()) tensors.emplace_back(parameter->name, parameter->value.detach());
  const Head head = model.options().head;
  checkpoint::export_hf_directory(
      folder, tensors,
      {.config_json = arch::export_config_json(model.config(), {.dtype = dtype_name(dtype), .head = head}),
       .copy_from = from,
       .max_shard_bytes = 40000});
}

void expect_round_trip(const Transformer& model, at::ScalarType dtype, Head head, const std::string& folder) {
  const checkpoint::HfDirectory directory(folder);
  EXPECT_EQ(directory.names().size(), model.parameters().size());
  auto back = make_model(arch::parse_model_config(directory.config_json(), directory.config_path()), dtype, head);
  load(back, directory);
  for (size_t i = 0; i < back.parameters().size(); ++i)
    EXPECT_TRUE(at::equal(back.parameters()[i]->value, model.parameters()[i]->value)) << model.parameters()[i]->name;
}

TEST(ModelExport, ComesBackBitForBitInEveryDtype) {
  fs::remove_all(scratch());
  fs::create_directories(scratch());
  for (const char* name : {"llama", "llama_linear", "llama_llama3", "qwen2", "qwen3"}) {
    const std::string golden = std::string(FPDIST_SOURCE_DIR) + "/tests/golden/model_" + name;
    const checkpoint::HfDirectory directory(golden);
    const arch::Model config = arch::parse_model_config(directory.config_json(), directory.config_path());
    for (const auto dtype : {at::kFloat, at::kDouble, at::kBFloat16}) {
      for (const Head head : {Head::kLanguageModel, Head::kScore}) {
        auto model = make_model(config, dtype, head);
        randomize(model, 17);
        const std::string folder = (scratch() / (std::string(name) + "-" + std::string(dtype_name(dtype)) +
                                                 (head == Head::kScore ? "-score" : "")))
                                       .string();
        export_model(model, dtype, folder, golden);
        expect_round_trip(model, dtype, head, folder);
        write_logits(model, head, folder);
      }
    }
  }
}

TEST(ModelExport, APresetIsAWholeDirectory) {
  auto model = make_model(arch::preset_config("tiny"), at::kFloat);
  model.initialize(4);
  const std::string folder = (scratch() / "tiny-float32").string();
  export_model(model, at::kFloat, folder, "");
  expect_round_trip(model, at::kFloat, Head::kLanguageModel, folder);
  write_logits(model, Head::kLanguageModel, folder);
}

TEST(ModelExport, AProcessRewardModelComesBackAsOne) {
  auto model = make_model(small_config("qwen3"), at::kFloat, Head::kTokenClass);
  randomize(model, 2);
  const std::string folder = (scratch() / "classes").string();
  fs::remove_all(folder);
  fs::create_directories(scratch());
  export_model(model, at::kFloat, folder, "");
  expect_round_trip(model, at::kFloat, Head::kTokenClass, folder);
  const checkpoint::HfDirectory directory(folder);
  EXPECT_EQ(arch::head_of([&](const char* name) { return directory.contains(name); }), Head::kTokenClass);
}

TEST(ModelExport, ATiedModelIgnoresAHeadInTheFile) {
  auto model = make_model(small_config("qwen2", /*tied=*/true), at::kFloat);
  model.initialize(1);
  for (const auto& parameter : model.parameters()) EXPECT_NE(parameter->name, "lm_head.weight");
}

}  // namespace
}  // namespace fpdist::model
