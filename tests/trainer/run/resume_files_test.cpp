// The files of a checkpoint as people, other programs' versions and a power loss meet them.

#include <gtest/gtest.h>

#include <filesystem>

#include "tests/trainer/run/runs.hpp"

namespace fpdist::trainer {
namespace {

namespace fs = std::filesystem;

using test::error_of, test::expect_words;

class ResumeFiles : public test::Runs {};

TEST_F(ResumeFiles, ACheckpointIsThereWhenTheMetricsBeforeItAreOnTheDisk) {
  Config config = in("out", config_);
  run(config, 1, 3);
  const std::string metrics = scratch_ / "out/metrics.jsonl";
  NullLog quiet;
  comm::run_threads(1, [&](comm::World& world) {
    Trainer trainer(world, config, quiet);
    trainer.set_hook([&](const StepMetrics& step) {
      if (step.step != 3) return;
      fs::rename(metrics, metrics + ".moved");
      fs::create_symlink("metrics.jsonl", metrics);  // to itself: nobody can open it
    });
    expect_words(error_of<DiskError>([&] { trainer.train(); }),
                 {"checkpoint-4: cannot write ", "metrics.jsonl: flush"});
  });
  EXPECT_FALSE(fs::exists(scratch_ / "out/checkpoint-4"));
  fs::rename(metrics + ".moved", metrics);
  run(config, 1);
  expect_words(said(), {"checkpoint-2, after step 2"});
}

TEST_F(ResumeFiles, AutoSaysOfANewerFormatThatItIsNotDamaged) {
  const Config config = in("out", config_);
  run(config, 1, 5);
  const std::string path = scratch_ / "out/checkpoint-4/manifest.json";
  std::string manifest = test::slurp(path);
  manifest.replace(manifest.find("\"format\": 1"), 11, "\"format\": 9");
  test::spill(path, manifest);
  Config named = config;
  named.train.resume_from_checkpoint = scratch_ / "out/checkpoint-4";
  expect_words(error_of<ModelFileError>([&] { run(named, 1); }), {"format 9 is newer than this program's 1"});
  run(config, 1);
  expect_words(said(), {"passing over ", "checkpoint-4: it is not damaged, a newer program has written it", "format 9",
                        "write over it", "going on from ", "checkpoint-2, after step 2"});
}

TEST_F(ResumeFiles, ACheckpointHasTheSettingsForPeopleToRead) {
  const Config config = in("out", config_);
  run(config, 1);
  const std::string read = test::slurp(scratch_ / "out/checkpoint-2/config.resolved.yaml");
  EXPECT_EQ(read, test::slurp(scratch_ / "out/config.resolved.yaml"));
  expect_words(read, {"learning_rate: 0.001"});
}

}  // namespace
}  // namespace fpdist::trainer
