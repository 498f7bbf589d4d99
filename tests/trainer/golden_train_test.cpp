// Five AdamW steps against a plain PyTorch loop over transformers' model, each sample alone (tests/golden/
// make_train_golden.py): the same losses, gradient norms and weights, in float64 and in float32.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <tuple>

#include "fpdist/checkpoint/hf_directory.hpp"
#include "fpdist/core/error.hpp"
#include "fpdist/data/reader.hpp"
#include "fpdist/data/tokenizer.hpp"
#include "fpdist/trainer/trainer.hpp"
#include "tests/support/files/scratch.hpp"

namespace fpdist::trainer {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

const fs::path kGolden = fs::path(FPDIST_SOURCE_DIR) / "tests/golden/train";

Config golden_config(const Json& expected, const std::string& method, DType dtype, const fs::path& output) {
  Config config;
  config.method = method_from_name(method);
  config.model.path = (kGolden / expected["method"][method]["model"].get<std::string>()).string();
  config.model.dtype = dtype;
  config.data.path = {(kGolden / (method + ".jsonl")).string()};
  config.data.shuffle = false;
  config.train.groups_per_step = expected["train"]["groups_per_step"];
  config.train.max_steps = expected["train"]["max_steps"];
  config.train.output_dir = output.string();
  const Json& optim = expected["optim"];
  config.optim = {.learning_rate = optim["learning_rate"],
                  .adam_beta1 = optim["adam_beta1"],
                  .adam_beta2 = optim["adam_beta2"],
                  .adam_epsilon = optim["adam_epsilon"],
                  .weight_decay = optim["weight_decay"],
                  .max_grad_norm = optim["max_grad_norm"]};
  const Json& loss = expected["method"][method]["loss"];
  if (loss.contains("loss_type")) config.loss.loss_type = {loss.at("loss_type").get<std::string>()};
  config.loss.beta = loss.value("beta", config.loss.beta);
  config.loss.epsilon = loss.value("epsilon", config.loss.epsilon);
  config.loss.center_rewards_coefficient = loss.value("center_rewards_coefficient", 0.0);
  return config;
}

/// Squared distance of two directories' weights and of the second from the start, over all tensors.
struct Distance {
  double apart = 0, change = 0;
};

Distance compare_weights(const std::string& trained, const std::string& expected, const std::string& start) {
  const checkpoint::HfDirectory ours(trained), begin(start);
  const checkpoint::SafetensorsFile theirs(expected);
  Distance distance;
  EXPECT_EQ(ours.names().size(), theirs.tensors().size());
  for (const auto& [name, info] : theirs.tensors()) {
    at::Tensor a = at::empty(info.shape, at::kDouble), from = at::empty(info.shape, at::kDouble);
    ours.read_into(name, a);
    begin.read_into(name, from);
    const at::Tensor b = theirs.tensor(name);
    distance.apart += (a - b).square().sum().item<double>();
    distance.change += (b - from).square().sum().item<double>();
  }
  return distance;
}

class GoldenTraining : public ::testing::TestWithParam<std::tuple<const char*, DType, int>> {};

TEST_P(GoldenTraining, FiveStepsEqualAPlainPyTorchLoop) {
  at::set_num_threads(1);
  const auto [method, dtype, ranks] = GetParam();
  const Json expected = Json::parse(std::ifstream(kGolden / "expected.json"));
  const test::Scratch scratch;
  const Config config = golden_config(expected, method, dtype, scratch / "out");
  std::vector<StepMetrics> steps;
  comm::run_threads(ranks, [&](comm::World& world) {
    NullLog log;
    Trainer trainer(world, config, log);
    if (world.rank() == 0) trainer.set_hook([&](const StepMetrics& metrics) { steps.push_back(metrics); });
    trainer.train();
  });
  const bool is_double = dtype == DType::kFloat64;
  const Json& golden = expected["method"][method][is_double ? "float64" : "float32"];
  const double close = is_double ? 1e-8 : 1e-4;
  ASSERT_EQ(steps.size(), golden["loss"].size());
  for (size_t s = 0; s < steps.size(); ++s)
    for (const char* name : {"loss", "grad_norm", "learning_rate"}) {
      const double value = golden[name][s];
      EXPECT_NEAR(steps[s].values.at(name), value, close * std::max(1.0, std::abs(value)))
          << name << ", step " << s + 1;
    }
  const Distance distance = compare_weights(
      scratch / "out/final", (kGolden / text("expected_", method, ".safetensors")).string(), config.model.path);
  ASSERT_GT(distance.change, 0);
  EXPECT_LT(std::sqrt(distance.apart / distance.change), is_double ? 1e-8 : 5e-3);
}

TEST_P(GoldenTraining, AnEvaluationIsThePlainLoopsLoss) {
  at::set_num_threads(1);
  const auto [method, dtype, ranks] = GetParam();
  const Json expected = Json::parse(std::ifstream(kGolden / "expected.json"));
  const Config config = golden_config(expected, method, dtype, "unused");
  StepMetrics evaluated;
  comm::run_threads(ranks, [&](comm::World& world) {
    NullLog log;
    Trainer trainer(world, config, log);
    const auto tokenizer = data::make_byte_tokenizer();
    data::Dataset dataset = data::read_dataset(config.data, config.method, *tokenizer, log);
    dataset.group.resize(static_cast<size_t>(config.train.groups_per_step));
    const StepMetrics own = trainer.evaluate(dataset.group);
    if (world.rank() == 0) evaluated = own;
  });
  const double loss = expected["method"][method][dtype == DType::kFloat64 ? "float64" : "float32"]["loss"][0];
  EXPECT_NEAR(evaluated.values.at("eval_loss"), loss, dtype == DType::kFloat64 ? 1e-10 : 1e-5);
}

/// What TRL's DPOTrainer has come to on a PEFT model (make_train_adapter_golden.py).
struct GoldenAdapter {
  const char *start, *expected;  ///< the adapter that it began at, and its weights after five steps
  const char* reference;         ///< a model; "": the adapter as it was
};

class GoldenAdapters : public ::testing::TestWithParam<GoldenAdapter> {};

/// The largest difference of our weights from theirs, of how far theirs have moved.
double distance_of_change(const std::string& trained, const std::string& start,
                          const checkpoint::SafetensorsFile& theirs) {
  const auto ours = checkpoint::HfDirectory::of_adapter(trained), begin = checkpoint::HfDirectory::of_adapter(start);
  double apart = 0, change = 0;
  EXPECT_EQ(ours.names().size() + 1, theirs.tensors().size());  // and losses
  for (const std::string& name : ours.names()) {
    const at::Tensor wanted = theirs.tensor(name);
    apart += (ours.file_with(name).tensor(name) - wanted).square().sum().item<double>();
    change += (wanted - begin.file_with(name).tensor(name)).square().sum().item<double>();
  }
  EXPECT_GT(change, 0);
  return std::sqrt(apart / change);
}

TEST_P(GoldenAdapters, FiveStepsOfDpoEqualTrlAndPeft) {
  at::set_num_threads(1);
  const Json expected = Json::parse(std::ifstream(kGolden / "expected.json"));
  const checkpoint::SafetensorsFile theirs((kGolden / GetParam().expected).string());
  const at::Tensor logged = theirs.tensor("losses");  // through a float32
  const std::string reference = GetParam().reference;
  const test::Scratch scratch;
  for (const int ranks : {1, 2}) {
    Config config = golden_config(expected, "dpo", DType::kFloat64, scratch / text("out", ranks));
    config.adapter.path = (kGolden / GetParam().start).string();
    if (!reference.empty()) config.model.ref_path = (kGolden / reference).string();
    std::vector<double> losses;
    comm::run_threads(ranks, [&](comm::World& world) {
      NullLog log;
      Trainer trainer(world, config, log);
      if (world.rank() == 0)
        trainer.set_hook([&](const StepMetrics& step) { losses.push_back(step.values.at("loss")); });
      trainer.train();
    });
    ASSERT_EQ(static_cast<int64_t>(losses.size()), logged.numel());
    for (int64_t s = 0; s < logged.numel(); ++s)
      EXPECT_NEAR(losses[static_cast<size_t>(s)], logged[s].item<double>(), 1e-7) << "step " << s + 1;
    EXPECT_LT(distance_of_change(config.train.output_dir + "/final", config.adapter.path, theirs), 1e-8);
  }
}

INSTANTIATE_TEST_SUITE_P(Adapters, GoldenAdapters,
                         ::testing::Values(GoldenAdapter{"adapter", "expected_dpo_lora.safetensors", ""},
                                           GoldenAdapter{"prefix", "expected_dpo_prefix.safetensors", "model"}),
                         [](const auto& info) { return std::string(info.param.start); });

INSTANTIATE_TEST_SUITE_P(Methods, GoldenTraining,
                         ::testing::Combine(::testing::Values("sft", "dpo", "reward", "grpo"),
                                            ::testing::Values(DType::kFloat64, DType::kFloat32),
                                            ::testing::Values(1, 3)));

}  // namespace
}  // namespace fpdist::trainer
