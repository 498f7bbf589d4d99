// Runs beside weights of 4 bits: what they compute, where the weights come from, what they weigh, what is refused.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <map>

#include "fpdist/checkpoint/hf_directory.hpp"
#include "fpdist/config/settled.hpp"
#include "fpdist/ops/quantized_weight.hpp"
#include "src/trainer/weights/load_model.hpp"
#include "tests/support/random/random_groups.hpp"
#include "tests/trainer/run/runs.hpp"

namespace fpdist::trainer {
namespace {

using test::expect_words, test::refusal;

const std::string kQuantized = FPDIST_SOURCE_DIR "/tests/golden/model_llama_nf4", kBack = kQuantized + "_back";

Config config_of(const std::string& path, DType dtype = DType::kFloat32) {
  Config config = test::tiny_config(Method::kDpo);
  config.model.preset.clear(), config.model.path = path, config.model.dtype = dtype;
  config.adapter.type = "lora", config.adapter.r = 4, config.adapter.target_modules = {"q_proj", "o_proj", "down_proj"};
  config.adapter.init_lora_weights = "false";
  return config;
}

/// Groups whose tokens every model here has.
std::vector<data::Group> groups_of(int step) {
  std::vector<data::Group> groups = test::random_groups(Method::kDpo, 3, static_cast<uint64_t>(step));
  for (data::Group& group : groups)
    for (data::Sample& sample : group.sample)
      for (auto* tokens : {&sample.token, &sample.target})
        for (int32_t& token : *tokens) token = token < 0 ? token : token % 32;
  return groups;
}

struct Outcome {
  std::map<std::string, at::Tensor> weights;
  double loss = 0, eval_loss = 0;
};

Outcome run(const Config& config, int ranks = 1, int steps = 2) {
  at::set_num_threads(1);
  Outcome outcome;
  comm::run_threads(ranks, [&](comm::World& world) {
    NullLog log;
    Trainer trainer(world, config, log);
    double loss = 0;
    for (int step = 0; step < steps; ++step) loss = trainer.step(groups_of(step)).values.at("loss");
    const double evaluated = trainer.evaluate(groups_of(9)).values.at("eval_loss");
    auto weights = trainer.gather_weights();
    if (world.rank() == 0) outcome = {std::move(weights), loss, evaluated};
  });
  return outcome;
}

void expect_same_bits(const Outcome& one, const Outcome& other) {
  EXPECT_EQ(one.loss, other.loss);
  EXPECT_EQ(one.eval_loss, other.eval_loss);
  for (const auto& [name, weight] : other.weights) EXPECT_TRUE(at::equal(one.weights.at(name), weight)) << name;
}

TEST(QuantizedRuns, AreBitForBitThoseOfTheModelThatTheirWeightsAre) {
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    Config quantized = config_of(kQuantized, dtype), back = config_of(kBack, dtype);
    quantized.adapter.use_dora = back.adapter.use_dora = dtype == DType::kFloat32;
    quantized.adapter.lora_dtype = back.adapter.lora_dtype = "float32";
    quantized.adapter.lora_dropout = back.adapter.lora_dropout = 0.1;
    quantized.model.gradient_checkpointing = true;
    const Outcome one = run(quantized);
    expect_same_bits(one, run(back));
    for (const auto& [name, weight] : one.weights) EXPECT_EQ(weight.scalar_type(), at::kFloat) << name;
  }
}

TEST(QuantizedRuns, QuantizeWhatTheyReadAsBitsandbytesWould) {
  Config config = config_of(kBack);
  config.model.load_in_4bit = true;
  const checkpoint::HfDirectory plain(kBack);
  for (const bool nested : {false, true}) {
    config.model.bnb_4bit_use_double_quant = nested;
    const config::Settled job = config::settle(config, 1);
    comm::run_threads(1, [&](comm::World& world) {
      const comm::Mesh mesh(world, job.config.parallel);
      const auto runs = load_model(job.config, job.model, mesh, at::kCPU);
      int count = 0;
      for (const auto& parameter : runs.front()->parameters()) {
        EXPECT_EQ(parameter->quantized != nullptr, parameter->name.find("_proj.weight") != std::string::npos);
        if (!parameter->quantized) continue;
        ++count;
        ops::QuantizedWeight wanted{
            .matrix = ops::quantize(plain.file_with(parameter->name).tensor(parameter->name).to(at::kFloat), nested)};
        EXPECT_TRUE(at::equal(ops::frozen_value(*parameter), wanted.value())) << parameter->name;
        EXPECT_EQ(parameter->quantized->matrix.is_nested(), nested);
      }
      EXPECT_EQ(count, 14);
    });
  }
}

/// In float64 of weights that are cut between blocks, or by layers.
TEST(QuantizedRuns, EqualOneRankOnAnyMesh) {
  Config config = test::tiny_config(Method::kDpo);
  config.model.load_in_4bit = config.model.bnb_4bit_use_double_quant = true;
  config.adapter.type = "lora", config.adapter.r = 2, config.adapter.target_modules = {"all-linear"};
  config.adapter.lora_dropout = 0.2, config.adapter.init_lora_weights = "false";
  config.pack.max_tokens = 70;
  const Outcome one = run(config, 1, 1);
  for (const MeshShape mesh : {MeshShape{.dp = 2, .tp = 2}, MeshShape{.dp = 1, .pp = 2, .cp = 2}}) {
    static_cast<MeshShape&>(config.parallel) = mesh;
    const Outcome many = run(config, mesh.size(), 1);
    EXPECT_NEAR(many.loss, one.loss, 1e-10);
    EXPECT_NEAR(many.eval_loss, one.eval_loss, 1e-10);
    for (const auto& [name, weight] : one.weights)
      EXPECT_LT((many.weights.at(name) - weight).abs().max().item<double>(), 1e-9) << name;
  }
}

TEST(QuantizedRuns, AreRefusedInOneLineWhereNothingCouldBeTrained) {
  const auto said = [](Config config, int ranks = 1) { return refusal<Error>([&] { (void)run(config, ranks, 0); }); };
  Config whole = config_of(kQuantized);
  whole.adapter = {};
  expect_words(said(whole), {"model_llama_nf4 holds weights of 4 bits", "adapter: { type: lora", "unquantised model"});
  whole.model.path = kBack, whole.model.load_in_4bit = true;
  expect_words(said(whole), {"model.load_in_4bit makes weights of 4 bits", "leave model.load_in_4bit out"});
  Config cut = config_of(kQuantized);
  cut.parallel.tp = 2;
  expect_words(said(cut, 2), {"parallel.tp 2 would cut through blocks of 64 elements", "may be 1"});
}

}  // namespace
}  // namespace fpdist::trainer
