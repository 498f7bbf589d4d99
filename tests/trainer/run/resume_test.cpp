// A run that ends early and goes on is the run that never stopped.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>

#include "fpdist/checkpoint/hf_directory.hpp"
#include "tests/support/files/full_disk.hpp"
#include "tests/support/random/random_groups.hpp"
#include "tests/support/ranks/error_on_ranks.hpp"
#include "tests/trainer/run/runs.hpp"

namespace fpdist::trainer {
namespace {

namespace fs = std::filesystem;

using test::error_of, test::expect_words, test::Runs;

struct Case {
  const char* name;
  Method method;
  DType dtype;
  MeshShape mesh;
  bool beside;  ///< saves beside the steps
  bool ties = false;
};

class ResumedRun : public Runs, public ::testing::WithParamInterface<Case> {
 protected:
  Config config_of(const Case& the) {
    Config config = test::tiny_config(the.method);
    config.train = config_.train, config.data = config_.data;
    if (the.method == Method::kSft) config.data.path = {learned_rows(16)};
    config.model.dtype = the.dtype;
    config.train.save_async = the.beside, config.train.final_dtype = "float32";
    static_cast<MeshShape&>(config.parallel) = the.mesh;
    if (the.ties) {
      config.model.preset = "", config.model.path = scratch_ / "tied";
      write_tied_model(config.model.path);
    }
    return config;
  }
  static void write_tied_model(const std::string& path) {
    arch::Model model = arch::model_of_shape(
        "llama",
        {.layers = 2, .hidden = 16, .intermediate = 24, .heads = 4, .kv_heads = 1, .head_dim = 4, .vocab = 99});
    model.tie_word_embeddings = true;
    checkpoint::NamedTensors tensors;
    at::manual_seed(1);
    for (const auto& [name, shape] : arch::parameters(model, Head::kLanguageModel))
      tensors.emplace_back(name, at::randn(shape) * 0.1);
    checkpoint::export_hf_directory(
        path, tensors, {.config_json = arch::export_config_json(model, {.dtype = "float32"}), .copy_from = ""});
  }
};

TEST_P(ResumedRun, OnTheSameMeshIsTheUnbrokenOneToTheLastBit) {
  const Case& the = GetParam();
  const Config unbroken = in("unbroken", config_of(the)), broken = in("broken", config_of(the));
  const int ranks = the.mesh.size();
  run(unbroken, ranks);
  run(broken, ranks, 6);
  EXPECT_EQ(metrics(broken).size(), 5U) << "a row that must be cut";
  EXPECT_FALSE(fs::exists(scratch_ / "broken/final"));
  run(broken, ranks);
  // Beside the steps, the one of step 4 may have been under way.
  expect_words(said(), {"going on from ", the.beside ? "broken/checkpoint-" : "broken/checkpoint-4, after step 4"});
  expect_same_bits(unbroken, broken);
  run(broken, ranks);  // once more: from the checkpoint behind its last step
  expect_words(said(), {"broken/checkpoint-6, after step 6"});
  expect_same_bits(unbroken, broken);
}

constexpr auto kFloat = DType::kFloat32, kHalf = DType::kBFloat16, kDouble = DType::kFloat64;

INSTANTIATE_TEST_SUITE_P(
    Meshes, ResumedRun,
    ::testing::Values(Case{"dpo_one_rank", Method::kDpo, kFloat, {.dp = 1}, true},
                      Case{"sft_dp3", Method::kSft, kFloat, {.dp = 3}, true},
                      Case{"reward_bfloat16_dp2", Method::kReward, kHalf, {.dp = 2}, true},
                      Case{"dpo_bfloat16_tp4", Method::kDpo, kHalf, {.dp = 1, .tp = 4}, false},
                      Case{"dpo_dp2cp2", Method::kDpo, kDouble, {.dp = 2, .cp = 2}, true},
                      Case{"dpo_tied_pp2tp2", Method::kDpo, kFloat, {.dp = 1, .pp = 2, .tp = 2}, true, true},
                      Case{"dpo_tied_bfloat16_dp2pp2", Method::kDpo, kHalf, {.dp = 2, .pp = 2}, true, true}),
    [](const auto& info) { return info.param.name; });

class Resume : public Runs {};

TEST_F(Resume, AutoPassesOverWhatIsDamagedAndSaysSo) {
  const Config unbroken = in("unbroken", config_), broken = in("broken", config_);
  run(unbroken, 2);
  run(broken, 2, 5);
  std::string shard;
  for (const auto& entry : fs::directory_iterator(scratch_ / "broken/checkpoint-4"))
    if (entry.path().extension() == ".safetensors") shard = entry.path().string();
  std::string bytes = test::slurp(shard);
  ASSERT_GT(bytes.size(), 10'000U);
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 4);
  test::spill(shard, bytes);
  run(broken, 2);
  expect_words(said(), {"warning passing over ", "broken/checkpoint-4: ", fs::path(shard).filename().string(),
                        "going on from ", "broken/checkpoint-2, after step 2"});
  expect_same_bits(unbroken, broken);
}

TEST_F(Resume, AutoWithNothingWholeIsAnErrorAndTouchesNothing) {
  const Config config = in("out", config_);
  run(config, 1, 3);
  fs::remove(scratch_ / "out/checkpoint-2/manifest.json");
  const std::string before = test::slurp(scratch_ / "out/metrics.jsonl");
  const std::string what = error_of<ModelFileError>([&] { run(config, 1); });
  expect_words(what, {"no checkpoint in ", "checkpoint-2: ", "manifest.json", "remove them to begin anew"});
  EXPECT_EQ(test::slurp(scratch_ / "out/metrics.jsonl"), before);
}

TEST_F(Resume, AutoBeginsAnewWhereAKilledRunHadNotSavedYet) {
  const Config unbroken = in("unbroken", config_), config = in("out", config_);
  run(unbroken, 1);
  run(config, 1, 1);
  fs::create_directories(scratch_ / "out/checkpoint-2.tmp");
  test::spill(scratch_ / "out/checkpoint-2.tmp/shard-00001-of-00001.safetensors", "half of");
  run(config, 1);
  expect_same_bits(unbroken, config);
  EXPECT_FALSE(fs::exists(scratch_ / "out/checkpoint-2.tmp"));
}

TEST_F(Resume, AutoDoesNotWriteOverAFinishedRunWithoutCheckpoints) {
  Config config = in("out", config_);
  config.train.save_steps = 0;
  run(config, 1);
  expect_words(error_of<ConfigError>([&] { run(config, 1); }),
               {"holds final and no checkpoint to go on from", "train.overwrite_output_dir: true"});
  config.train.overwrite_output_dir = true;
  run(config, 1);
}

TEST_F(Resume, WhatAKilledSaveLeftIsGoneAfterTheNextStart) {
  const Config config = in("out", config_);
  run(config, 1, 3);
  fs::create_directories(scratch_ / "out/checkpoint-4.tmp");
  for (const char* file : {"checkpoint-4.tmp/shard-00001-of-00001.safetensors", "metrics.jsonl.tmp"})
    test::spill(scratch_ / ("out/" + std::string(file)), "half of");
  run(config, 1);
  for (const std::string& name : names(config)) EXPECT_FALSE(name.ends_with(".tmp")) << name;
}

TEST_F(Resume, FromAFolderByNameIntoAnotherOne) {
  const Config unbroken = in("unbroken", config_);
  run(unbroken, 1);
  Config other = in("other", config_);
  other.train.resume_from_checkpoint = scratch_ / "unbroken/checkpoint-4/";
  run(other, 1);
  EXPECT_TRUE(weights(other) == weights(unbroken));
  EXPECT_EQ(metrics(other).size(), 2U);
}

TEST_F(Resume, FromAnOlderOneOfTheSameFolderRemovesNewerOnesOnlyWhenAsked) {
  const Config unbroken = in("unbroken", config_);
  run(unbroken, 1);
  Config again = unbroken;
  again.train.resume_from_checkpoint = scratch_ / "unbroken/checkpoint-2";
  const std::string before = weights(unbroken);
  const auto rows = metrics(unbroken);
  expect_words(error_of<ConfigError>([&] { run(again, 1); }), {"unbroken/checkpoint-6, which is newer"});
  EXPECT_EQ(metrics(unbroken), rows);
  again.train.overwrite_output_dir = true;
  run(again, 1, 3);
  EXPECT_FALSE(fs::exists(scratch_ / "unbroken/checkpoint-4"));
  EXPECT_EQ(metrics(unbroken).size(), 2U);
  run(unbroken, 1);
  EXPECT_TRUE(weights(unbroken) == before);
  EXPECT_EQ(metrics(unbroken), rows);
}

TEST_F(Resume, OtherSettingsAreNamed) {
  run(in("out", config_), 1, 3);
  Config other = in("out", config_);
  other.optim.learning_rate = 2e-3, other.train.seed = 1, other.loss.beta = 0.2;
  other.train.logging_steps = 2, other.train.save_total_limit = 3, other.pack.max_tokens = 200;  // free
  const std::string what = error_of<ConfigError>([&] { run(other, 1); });
  expect_words(what, {"out/checkpoint-2 was saved with other settings that change results:",
                      "\n  optim.learning_rate: 0.001 -> 0.002", "\n  train.seed: 0 -> 1", "\n  loss.beta: 0.1 -> 0.2",
                      "train.resume_anyway: true"});
  for (const char* free : {"logging_steps", "save_total_limit", "max_tokens"})
    EXPECT_EQ(what.find(free), std::string::npos) << free;
  other.train.resume_anyway = true;
  run(other, 1);
  expect_words(said(), {"warning going on from ", "optim.learning_rate: 0.001 -> 0.002"});
}

TEST_F(Resume, OtherDataAreNamed) {
  run(in("out", config_), 1, 3);
  Config moved = in("out", config_);
  moved.data.path = {scratch_ / "moved.jsonl"};
  fs::copy_file(config_.data.path[0], moved.data.path[0]);
  Config other = moved;
  other.data.path = {rows(20)};
  expect_words(error_of<ConfigError>([&] { run(other, 1); }),
               {"was saved with other data:", "the samples: 16 groups with the checksum ", " -> 20 groups with the ",
                "\n  data.path: [\"", "train.resume_anyway: true"});
  run(moved, 1);  // the same samples
}

TEST_F(Resume, AnotherModelIsRefusedInASentence) {
  run(in("out", config_), 1, 3);
  const arch::Model model = arch::model_of_shape(
      "llama", {.layers = 1, .hidden = 8, .intermediate = 8, .heads = 1, .kv_heads = 1, .head_dim = 8, .vocab = 320});
  checkpoint::NamedTensors tensors;
  for (const auto& [name, shape] : arch::parameters(model, Head::kLanguageModel))
    tensors.emplace_back(name, at::full(shape, 0.1));
  checkpoint::export_hf_directory(
      scratch_ / "small", tensors,
      {.config_json = arch::export_config_json(model, {.dtype = "float32"}), .copy_from = ""});
  Config other = in("out", config_);
  other.model.preset = "", other.model.path = scratch_ / "small", other.train.resume_anyway = true;
  expect_words(error_of<ModelFileError>([&] { run(other, 2); }),
               {"out/checkpoint-2 is of another model: num_hidden_layers 1 against 4"});
}

TEST_F(Resume, TheReferenceIsTheModelThatTheRunBeganWith) {
  Config base = in("base", config_);
  base.train.max_steps = 1, base.train.save_steps = 0;
  run(base, 1);
  Config config = in("out", config_);
  config.model.preset = "", config.model.path = scratch_ / "base/final";
  const Config unbroken = in("unbroken", config);
  run(unbroken, 1);
  run(config, 1, 5);
  run(config, 1);
  expect_same_bits(unbroken, config);
  EXPECT_NE(metrics(config)[4].at("rewards/margins"), 0.0) << "the trained weights are their own reference";
}

TEST_F(Resume, ARunThatIsAskedToStopSavesAndGoesOn) {
  const Config unbroken = in("unbroken", config_);
  Config config = in("out", config_);
  run(unbroken, 2);
  stop_after_ = 3;
  EXPECT_EQ(run(config, 2), RunEnd::kStopped);
  expect_words(said(), {"asked to stop: ", "out/checkpoint-3 is saved", "--train.resume_from_checkpoint auto"});
  EXPECT_FALSE(fs::exists(scratch_ / "out/final"));
  EXPECT_FALSE(fs::exists(scratch_ / "out/run.lock"));
  stop_after_ = -1;
  EXPECT_EQ(run(config, 2), RunEnd::kDone);
  expect_same_bits(unbroken, config);
}

TEST_F(Resume, AFullDiskStopsAllRanksAndLeavesTheCheckpointBefore) {
  for (const bool beside : {false, true}) {
    Config config = in(beside ? "beside" : "waiting", config_);
    config.train.save_total_limit = 1;
    const Config unbroken = in("unbroken", config);
    if (!beside) run(unbroken, 2);
    run(config, 2, 3);
    config.train.save_async = beside;
    {
      const test::FileSizeLimit limit(50'000);
      expect_words(test::error_on_ranks<DiskError>(2,
                                                   [&](comm::World& world) {
                                                     NullLog quiet;
                                                     Trainer(world, config, quiet).train();
                                                   }),
                   {"saving ", "/checkpoint-4: rank 0: ", "shard-", "disk full"});
    }
    for (const std::string& name : names(config)) EXPECT_FALSE(name.ends_with(".tmp")) << name;
    EXPECT_TRUE(fs::exists(config.train.output_dir + "/logs/rank_1.flight.json"));
    run(config, 2);
    expect_words(said(), {"checkpoint-2, after step 2"});
    expect_same_bits(unbroken, config);
  }
}

TEST_F(Resume, ALoopOfOnesOwnSavesBesideItsStepsAndGoesOn) {
  const auto groups = [](int64_t step) { return test::random_groups(Method::kDpo, 4, static_cast<uint64_t>(step)); };
  Config config = config_;
  config.data.path = {"unused"};
  std::map<std::string, at::Tensor> unbroken, resumed;
  NullLog log;
  std::atomic<int> committing = 0, saved = 0;
  const auto is_there = [&] { return fs::exists(scratch_ / "mine/manifest.json"); };
  comm::run_threads(2, [&](comm::World& world) {
    Trainer trainer(world, config, log);
    for (int64_t step = 0; step < 5; ++step) {
      trainer.step(groups(step));
      if (trainer.is_saving()) trainer.advance_save();
      if (step == 1)
        trainer.save_state(scratch_ / "mine/", {.notes = R"({"at": 2})",
                                                .beside_steps = true,
                                                .committing = [&] { committing += is_there() ? 10 : 1; },
                                                .saved = [&] { saved += is_there() ? 1 : 10; }});
      if (step == 1) {
        EXPECT_EQ(trainer.doing(), "writing " + scratch_ / "mine");
      }
    }
    trainer.finish_save();
    EXPECT_FALSE(trainer.is_saving());
    auto all = trainer.gather_weights();
    if (world.rank() == 0) unbroken = std::move(all);
  });
  EXPECT_EQ(committing, 1) << "once, by rank 0, ahead of the commit";
  EXPECT_EQ(saved, 1) << "once, by rank 0, behind it";
  comm::run_threads(2, [&](comm::World& world) {
    Trainer trainer(world, config, log);
    EXPECT_EQ(trainer.fault_of_state(scratch_ / "mine"), "");
    EXPECT_NE(trainer.fault_of_state(scratch_ / "none"), "");
    EXPECT_EQ(trainer.load_state(scratch_ / "mine"), R"({"at":2})");
    EXPECT_EQ(trainer.steps_done(), 2);
    for (int64_t step = 2; step < 5; ++step) trainer.step(groups(step));
    auto all = trainer.gather_weights();
    if (world.rank() == 0) resumed = std::move(all);
  });
  ASSERT_EQ(resumed.size(), unbroken.size());
  for (const auto& [name, tensor] : unbroken) EXPECT_TRUE(at::equal(tensor, resumed.at(name))) << name;
}

TEST_F(Resume, ASaveDoesNotGoOverAnInput) {
  Config config = config_;
  fs::create_directories(scratch_ / "mine");
  fs::copy_file(config.data.path[0], scratch_ / "mine/rows.jsonl");
  config.data.path = {scratch_ / "mine/rows.jsonl"};
  NullLog log;
  comm::run_threads(2, [&](comm::World& world) {
    Trainer trainer(world, config, log);
    expect_words(error_of<ConfigError>([&] { trainer.save_state(scratch_ / "mine"); }),
                 {"would write over ", "mine/rows.jsonl, and data.path", "save to another folder"});
  });
}

TEST_F(Resume, OlderCheckpointsGoAndTheNewestStays) {
  Config config = in("out", config_);
  config.train.save_steps = 1, config.train.save_total_limit = 2;
  run(config, 2);
  const auto is_there = [&](int step) { return fs::exists(scratch_ / text("out/checkpoint-", step)); };
  EXPECT_TRUE(is_there(6) && is_there(5));
  for (const int step : {1, 2, 3, 4}) EXPECT_FALSE(is_there(step)) << step;
}

TEST_F(Resume, CheckpointsOfOnlyTheModelAreExportsAndGoToo) {
  Config config = in("out", config_);
  config.train.save_only_model = true, config.train.save_steps = 1, config.train.save_total_limit = 1;
  config.train.resume_from_checkpoint = "none";
  run(config, 2);
  EXPECT_TRUE(fs::exists(scratch_ / "out/checkpoint-5/model.safetensors"));
  EXPECT_FALSE(fs::exists(scratch_ / "out/checkpoint-5/manifest.json"));
  EXPECT_FALSE(fs::exists(scratch_ / "out/checkpoint-4") || fs::exists(scratch_ / "out/checkpoint-6"));
}

TEST_F(Resume, ASaveAnEpoch) {
  Config config = in("out", config_);
  config.train.save_strategy = "epoch", config.train.save_steps = 0;
  run(config, 1);
  EXPECT_TRUE(fs::exists(scratch_ / "out/checkpoint-4")) << "16 groups, 4 a step";
  EXPECT_FALSE(fs::exists(scratch_ / "out/checkpoint-2"));
}

TEST_F(Resume, TwoRunsInOneFolderAtOnceAreOneTooMany) {
  const Config config = in("out", config_);
  NullLog log;
  comm::run_threads(1, [&](comm::World& world) {
    Trainer trainer(world, config, log);
    trainer.set_hook([&](const StepMetrics& step) {
      if (step.step != 3) return;
      const std::string before = test::slurp(scratch_ / "out/metrics.jsonl");
      expect_words(error_of<ConfigError>([&] {
                     comm::run_threads(1, [&](comm::World& second) { Trainer(second, config, log).train(); });
                   }),
                   {"another run writes into train.output_dir", "out/run.lock is held by process "});
      EXPECT_EQ(test::slurp(scratch_ / "out/metrics.jsonl"), before);
    });
    trainer.train();
  });
}

}  // namespace
}  // namespace fpdist::trainer
