#include "src/trainer/run/old_run.hpp"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "fpdist/core/error.hpp"
#include "fpdist/trainer/trainer.hpp"
#include "tests/support/files/scratch.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::trainer {
namespace {

namespace fs = std::filesystem;

bool keeps_nothing(const std::string&) { return false; }

class OldRun : public ::testing::Test {
 protected:
  OldRun() {
    at::set_num_threads(1);
    config_.train.output_dir = scratch_ / "out";
  }
  void spill(const std::string& name) {
    fs::create_directories(fs::path(scratch_ / "out/" + name).parent_path());
    test::spill(scratch_ / "out/" + name, "x");
  }
  /// Every file below output_dir, and every empty folder.
  std::vector<std::string> left() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::recursive_directory_iterator(scratch_ / "out"))
      if (!entry.is_directory() || fs::is_empty(entry.path()))
        names.push_back(fs::relative(entry.path(), scratch_ / "out").string());
    std::sort(names.begin(), names.end());
    return names;
  }

  const test::Scratch scratch_;
  config::Config config_;
};

TEST_F(OldRun, NothingThatARunWritesStays) {
  test::spill(scratch_ / "data.jsonl", R"({"prompt_ids":[1,2,3],"chosen_ids":[7,8],"rejected_ids":[7,9]}
{"prompt_ids":[1,2,4],"chosen_ids":[7,8,9],"rejected_ids":[7]})");
  config_.method = Method::kDpo;
  config_.model.preset = "tiny";
  config_.data.path = {scratch_ / "data.jsonl"};
  config_.train.groups_per_step = 2, config_.train.max_steps = 3;
  config_.train.save_steps = 1, config_.train.profile_steps = 1;
  config_.plan.calibrate_steps = 2;
  config_.train.report_to = {"jsonl", "tensorboard", "prometheus"};
  NullLog log;
  const auto run = [&](const config::Config& config, bool fails) {
    comm::run_threads(2, [&](comm::World& world) {
      Trainer trainer(world, config, log);
      trainer.set_hook(
          [&](const StepMetrics& step) { check<NumericsError>(!fails || step.step < 3, "a run that fails"); });
      trainer.train();
    });
  };
  run(config_, false);
  const std::vector<std::string> first = left();
  for (const char* name :
       {"checkpoint-1/manifest.json", "checkpoint-2/config.json", "checkpoint-3/shard-00001-of-00002.safetensors",
        "config.resolved.yaml", "costs.yaml", "final/config.json", "logs/rank_1.log", "metrics.jsonl", "metrics.prom",
        "trace-1.json", "trace-1.planned.json", "trace-1.txt"})
    EXPECT_TRUE(std::binary_search(first.begin(), first.end(), name)) << name;
  EXPECT_EQ(test::names_in(scratch_ / "out/tensorboard").size(), 1U);
  config_.train.overwrite_output_dir = config_.train.save_only_model = true;
  EXPECT_THROW(run(config_, true), NumericsError);
  EXPECT_TRUE(fs::exists(scratch_ / "out/checkpoint-2/model.safetensors"));
  EXPECT_FALSE(fs::exists(scratch_ / "out/checkpoint-2/manifest.json"));
  EXPECT_TRUE(fs::exists(scratch_ / "out/logs/rank_0.flight.json"));
  EXPECT_FALSE(fs::exists(scratch_ / "out/final"));
  config::Config less = config_;
  less.train.report_to = {"jsonl"};
  less.train.save_steps = less.train.profile_steps = less.plan.calibrate_steps = 0;
  run(less, false);
  EXPECT_EQ(left(), (std::vector<std::string>{"config.resolved.yaml", "final/config.json", "final/model.safetensors",
                                              "logs/rank_0.log", "logs/rank_1.log", "metrics.jsonl", "tensorboard"}));
  remove_old_run(config_.train.output_dir, keeps_nothing);
  EXPECT_EQ(left(), (std::vector<std::string>{"logs", "tensorboard"}));
}

TEST_F(OldRun, WhatIsNoFileOfARunStays) {
  const std::vector<std::string> users = {"checkpoint-1/notes.md",
                                          "checkpoint-best/model.safetensors",
                                          "final/eval/config.json",
                                          "final/scores.json",
                                          "logs/rank_0.log.gz",
                                          "logs/run/rank_0.log",
                                          "metrics.jsonl.bak",
                                          "notes.txt",
                                          "tensorboard/events.out.tfevents.1.node",
                                          "trace-1.json.gz",
                                          "trace-one.json"};
  for (const std::string& name : users) spill(name);
  for (const char* name : {"checkpoint-1/model-00001-of-00002.safetensors",
                           "checkpoint-1/config.json",
                           "checkpoint-12/tokenizer.json",
                           "checkpoint-12/additional_chat_templates/rag.jinja",
                           "checkpoint-13.tmp/additional_chat_templates/rag.jinja.tmp",
                           "checkpoint-3/config.resolved.yaml",
                           "checkpoint-12.tmp/model.safetensors.tmp",
                           "final/config.json",
                           "final.tmp/config.json",
                           "metrics.jsonl",
                           "config.resolved.yaml.tmp",
                           "metrics.jsonl.2.tmp",
                           "metrics.prom",
                           "metrics.prom.tmp",
                           "tensorboard/events.out.tfevents.1795675123.fpdist",
                           "final.1.tmp/config.json",
                           "logs/rank_12.flight.json",
                           "checkpoint-3/manifest.json",
                           "checkpoint-3/state.json",
                           "checkpoint-3/shard-00001-of-00008.safetensors",
                           "checkpoint-4.tmp/shard-00002-of-00002.safetensors.tmp",
                           "trace-10.planned.json",
                           "step-3.plan.json",
                           "step-3.yaml",
                           "step-3.costs.yaml",
                           "step-3.rows.jsonl"})
    spill(name);
  remove_old_run(config_.train.output_dir, keeps_nothing);
  EXPECT_EQ(left(), users);
}

TEST_F(OldRun, WhatIsToStayStays) {
  for (const char* name : {"final/config.json", "final/model.safetensors", "checkpoint-3/model.safetensors",
                           "costs.yaml", "trace-1.txt", "metrics.jsonl", "final.tmp/config.json"})
    spill(name);
  const std::set<std::string> kept = {"config.json", "costs.yaml"};
  remove_old_run(config_.train.output_dir,
                 [&](const std::string& file) { return kept.contains(fs::path(file).filename().string()); });
  EXPECT_EQ(left(), (std::vector<std::string>{"costs.yaml", "final.tmp/config.json", "final/config.json"}));
}

TEST_F(OldRun, WhatARunWritesOverIsKnownBeforehand) {
  for (const char* name :
       {"checkpoint-2/model.safetensors", "checkpoint-3/model.safetensors", "checkpoint-4.tmp/config.json.tmp",
        "checkpoint-4/manifest.json", "checkpoint-6/config.json", "checkpoint-8/state.json",
        "config.resolved.yaml.1.tmp", "final/notes.md", "final/tokenizer.json", "logs/rank_3.log", "metrics.jsonl",
        "metrics.prom", "notes.txt", "tensorboard/events.out.tfevents.17.fpdist", "trace-7.json"})
    spill(name);
  config_.train.save_steps = 2, config_.train.max_steps = 6;
  const auto names = [&] {
    std::vector<std::string> all;
    for (const std::string& file : files_in_the_way(config_.train))
      all.push_back(fs::relative(file, scratch_ / "out").string());
    std::sort(all.begin(), all.end());
    return all;
  };
  EXPECT_EQ(names(),
            (std::vector<std::string>{
                "checkpoint-2/model.safetensors", "checkpoint-4.tmp/config.json.tmp", "checkpoint-4/manifest.json",
                "checkpoint-6/config.json", "config.resolved.yaml.1.tmp", "final/tokenizer.json", "logs/rank_3.log",
                "metrics.jsonl", "metrics.prom", "tensorboard/events.out.tfevents.17.fpdist", "trace-7.json"}));
  const size_t before = names().size();
  config_.train.save_only_model = true;  // behind the last step the export is final/
  EXPECT_EQ(names().size(), before - 1);
  config_.train.save_strategy = "no";
  EXPECT_EQ(names().size(), before - 4);
}

TEST_F(OldRun, ALinkToAFolderLosesOurFilesOnly) {
  fs::create_directories(scratch_ / "elsewhere");
  test::spill(scratch_ / "elsewhere/model.safetensors", "x");
  spill("metrics.jsonl");
  fs::create_directory_symlink(scratch_ / "elsewhere", scratch_ / "out/final");
  remove_old_run(config_.train.output_dir, keeps_nothing);
  EXPECT_TRUE(fs::is_symlink(scratch_ / "out/final"));
  EXPECT_TRUE(fs::is_empty(scratch_ / "elsewhere"));
}

}  // namespace
}  // namespace fpdist::trainer
