#include "src/config/remarks.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>

#include "fpdist/core/rng.hpp"
#include "tests/support/files/scratch.hpp"
#include "tests/support/words/error_of.hpp"
#include "tests/support/words/heard_log.hpp"

namespace fpdist::config {
namespace {

/// What is said of a job on 40 samples of 30 tokens.
std::string said(const std::function<void(Config&)>& change) {
  Config config;
  config.model.preset = "tiny", config.data.path = {"unused"}, config.train.groups_per_step = 16;
  change(config);
  const plan::ParallelOptions& mesh = config.parallel;
  const Settled job = settle(config, std::max(1, mesh.dp) * mesh.pp * mesh.cp * mesh.tp);
  data::Dataset dataset;
  dataset.file = {"a.jsonl"};
  Rng rng(3);
  for (int64_t g = 0; g < 40; ++g) {
    data::Sample sample;
    for (int t = 0; t < 30; ++t) sample.token.push_back(static_cast<int32_t>(rng.below(200)));
    sample.target = sample.token;
    dataset.group.push_back({.id = g, .sample = {sample}, .margin = {}});
    dataset.place.push_back({.file = 0, .line = g + 1});
  }
  const data::Loader loader = data::make_loader(dataset, job.config.data, job.config.train.groups_per_step, 0);
  test::HeardLog log;
  remark(job, dataset, loader, log);
  return log.said();
}

TEST(Remarks, WhatIsMeantIsNotSpokenOf) {
  EXPECT_EQ(said([](Config&) {}), "");
  EXPECT_EQ(said([](Config& c) { c.parallel.dp = 4, c.parallel.tp = 2; }), "");
  EXPECT_EQ(said([](Config& c) { c.train.groups_per_step = 40; }), "");
}

TEST(Remarks, AStepThatIsLargerThanTheDataIsSaid) {
  test::expect_words(said([](Config& c) { c.train.groups_per_step = 41; }),
                     {"warning train.groups_per_step is 41 and the data have 40 groups"});
}

TEST(Remarks, APipelineThatIsNoFasterIsSaidWithItsIdleStages) {
  const std::string words = said([](Config& c) { c.parallel.pp = 2, c.parallel.layers = {4, 0}; });
  test::expect_words(words,
                     {"have none (layers 4,0;", "parallel.pp 2 makes steps no faster", "with pp 1 on 2 times fewer"});
}

TEST(Remarks, AScheduleWithoutAPipelineIsSaid) {
  test::expect_words(said([](Config& c) { c.parallel.schedule = plan::Schedule::kZeroBubble; }),
                     {"warning parallel.schedule is zb-h1", "parallel.pp is 1"});
}

TEST(Remarks, AnotherDtypeThanTheCheckpointsIsSaid) {
  const test::Scratch scratch;
  const std::string json = R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8,
    "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2,
    "vocab_size": 300, "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
    "tie_word_embeddings": false, "hidden_act": "silu", "torch_dtype": "bfloat16"})";
  std::ofstream(std::filesystem::path(scratch.path()) / "config.json") << json;
  const auto with = [&](DType dtype) {
    return said([&](Config& c) { c.model.preset = "", c.model.path = scratch.path(), c.model.dtype = dtype; });
  };
  test::expect_words(with(DType::kFloat32), {" are bfloat16 and model.dtype is float32", "half of the memory"});
  EXPECT_EQ(with(DType::kBFloat16), "");
}

}  // namespace
}  // namespace fpdist::config
