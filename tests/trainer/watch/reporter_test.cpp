#include "src/trainer/watch/reporter.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/trainer/watch/metrics_file.hpp"
#include "src/trainer/watch/prometheus.hpp"
#include "tests/support/files/full_disk.hpp"
#include "tests/support/files/scratch.hpp"
#include "tests/support/words/error_of.hpp"
#include "tests/support/words/heard_log.hpp"
#include "tests/trainer/watch/event_reader.hpp"

namespace fpdist::trainer {
namespace {

namespace fs = std::filesystem;
using test::contains, test::error_of, test::EventReader, test::expect_words, test::HeardLog, test::Scratch, test::slurp;

constexpr double kNoNumber = std::numeric_limits<double>::quiet_NaN();

class RunReporters : public ::testing::Test {
 protected:
  RunReporters() {
    options_.output_dir = scratch_ / "runs/mine/";
    fs::create_directories(options_.output_dir);
  }
  std::string path(const std::string& name) const { return scratch_ / ("runs/mine/" + name); }
  /// A process of the run that has done `steps_done` already and logs the steps behind, to `last`.
  void run(int64_t steps_done, int64_t last) {
    Reporters reporters(options_, {.method = "dpo", .config_yaml = "method: dpo\n", .steps_done = steps_done}, log_);
    for (int64_t step = steps_done + 1; step <= last; ++step)
      reporters.report({.step = step, .values = {{"loss", 1.0 / static_cast<double>(step)}, {"mfu", kNoNumber}}});
    reporters.report({.step = last, .values = {{"eval_loss", 0.5}}});
    reporters.close();
  }
  /// Event files in the order in which TensorBoard reads them.
  std::vector<std::vector<test::ReadEvent>> event_files() const {
    std::vector<std::vector<test::ReadEvent>> files;
    for (const std::string& name : test::names_in(path("tensorboard")))
      files.push_back(EventReader::read(slurp(path("tensorboard/" + name))));
    return files;
  }

  const Scratch scratch_;
  TrainOptions options_;
  HeardLog log_;
};

TEST_F(RunReporters, AreThoseThatWereAskedFor) {
  run(0, 2);
  EXPECT_EQ(test::names_in(path("")), std::vector<std::string>{"metrics.jsonl"});
  options_.report_to = {};
  options_.output_dir = scratch_ / "runs/none";
  fs::create_directories(options_.output_dir);
  run(0, 2);
  EXPECT_TRUE(fs::is_empty(options_.output_dir));
}

TEST_F(RunReporters, AllSayTheSame) {
  options_.report_to = {"prometheus", "jsonl", "tensorboard"};
  run(0, 2);
  EXPECT_EQ(log_.said(), "");
  EXPECT_EQ(slurp(path("metrics.jsonl")),
            "{\"step\": 1, \"loss\": 1, \"mfu\": null}\n{\"step\": 2, \"loss\": 0.5, \"mfu\": null}\n"
            "{\"step\": 2, \"eval_loss\": 0.5}\n");
  const auto files = event_files();
  ASSERT_EQ(files.size(), 1U);
  ASSERT_EQ(files[0].size(), 5U);
  EXPECT_EQ(files[0][0].version, "brain.Event:2");
  EXPECT_EQ(files[0][1].texts.at("config"), "    method: dpo\n");
  EXPECT_EQ(files[0][3].step, 2);
  EXPECT_EQ(files[0][3].scalars, (std::map<std::string, float>{{"train/loss", 0.5F}}));
  EXPECT_EQ(files[0][4].scalars, (std::map<std::string, float>{{"eval/loss", 0.5F}}));
  expect_words(
      slurp(path("metrics.prom")),
      {"fpdist_step{method=\"dpo\",run=\"mine\"} 2\n", "fpdist_loss{method=\"dpo\",run=\"mine\"} 0.5\n",
       "fpdist_eval_loss{method=\"dpo\",run=\"mine\"} 0.5\n", "fpdist_mfu{method=\"dpo\",run=\"mine\"} NaN\n"});
}

TEST_F(RunReporters, ARunThatResumesGoesOnAndVoidsWhatCameBehindItsCheckpoint) {
  options_.report_to = {"jsonl", "tensorboard"};
  run(0, 5);
  run(3, 4);  // whoever resumes has cut metrics.jsonl behind step 3
  run(4, 6);
  const auto files = event_files();
  ASSERT_EQ(files.size(), 3U) << "within one second too";
  EXPECT_FALSE(files[0][1].restarts);
  EXPECT_TRUE(files[1][1].restarts && files[2][1].restarts);
  EXPECT_EQ(files[1][1].step, 4);
  EXPECT_EQ(files[2][1].step, 5);
  const std::string lines = slurp(path("metrics.jsonl"));
  EXPECT_TRUE(lines.starts_with("{\"step\": 1,") && contains(lines, "{\"step\": 6,")) << lines;
}

TEST_F(RunReporters, WhatCannotBeWrittenIsToldOnceAndTrainingGoesOnWithoutIt) {
  options_.report_to = {"jsonl", "tensorboard", "prometheus"};
  test::spill(path("tensorboard"), "a file");
  fs::create_directories(path("metrics.prom"));
  run(0, 3);
  ASSERT_EQ(log_.lines().size(), 2U) << log_.said();
  expect_words(log_.said(), {"error cannot make ", "mine//tensorboard: ", "error cannot write ",
                             "metrics.prom: ", "no more numbers go there, training goes on"});
  EXPECT_TRUE(contains(slurp(path("metrics.jsonl")), "{\"step\": 3,"));
}

TEST_F(RunReporters, ADiskThatFillsUpIsToldOnceAndLeavesWholeRecords) {
  options_.report_to = {"tensorboard"};
  Reporters reporters(options_, {.method = "dpo", .config_yaml = "method: dpo\n"}, log_);
  const std::string file = path("tensorboard/" + test::names_in(path("tensorboard")).at(0));
  {
    const test::FileSizeLimit limit(fs::file_size(file) + 60);
    for (int64_t step = 1; step < 5; ++step) reporters.report({.step = step, .values = {{"loss", 1}}});
  }
  reporters.report({.step = 5, .values = {{"loss", 1}}});
  reporters.close();
  EXPECT_EQ(log_.lines().size(), 1U) << log_.said();
  expect_words(log_.said(), {"disk full", "training goes on"});
  EXPECT_EQ(EventReader::read(slurp(file)).back().step, 1);
}

TEST(MetricsFile, AFullDiskIsAnError) {
  MetricsFile file(test::kFullDevice, files::AppendFile::Open::kEmpty);
  EXPECT_TRUE(contains(error_of<DiskError>([&] { file.report({.step = 1, .values = {{"loss", 0.5}}}); }), "disk full"));
  const Scratch scratch;
  EXPECT_TRUE(contains(
      error_of<DiskError>([&] { MetricsFile(scratch / "none/metrics.jsonl", files::AppendFile::Open::kGoOn); }),
      "check the path"));
}

TEST(Prometheus, NamesLabelsAndNumbersAreAsTheFormatWantsThem) {
  const double infinite = std::numeric_limits<double>::infinity();
  const std::string said = prometheus_text(
      {.step = 7,
       .values = {{"rewards/margins", 0.1}, {"comm/dp_cp_bytes", 1e300}, {"a-b", -infinite}, {"c", kNoNumber}}},
      {{"method", "dpo"}, {"run", "a\"b\\c\nd"}});
  const std::string labels = R"({method="dpo",run="a\"b\\c\nd"} )";
  EXPECT_EQ(said,
            "# HELP fpdist_step optimizer steps done\n# TYPE fpdist_step gauge\nfpdist_step" + labels +
                "7\n# HELP fpdist_a_b a-b\n# TYPE fpdist_a_b gauge\nfpdist_a_b" + labels +
                "-Inf\n# HELP fpdist_c c\n# TYPE fpdist_c gauge\nfpdist_c" + labels +
                "NaN\n# HELP fpdist_comm_dp_cp_bytes comm/dp_cp_bytes\n# TYPE fpdist_comm_dp_cp_bytes gauge\n"
                "fpdist_comm_dp_cp_bytes" +
                labels +
                "1.0000000000000001e+300\n# HELP fpdist_rewards_margins mean reward of chosen less rejected answers\n"
                "# TYPE fpdist_rewards_margins gauge\nfpdist_rewards_margins" +
                labels + "0.10000000000000001\n");
  EXPECT_TRUE(contains(prometheus_text({.step = 1, .values = {}}, {}), "\nfpdist_step 1\n"));
}

TEST(Prometheus, TheFileIsReplacedAtMostOnceASecondAndAtTheEnd) {
  const Scratch scratch;
  PrometheusFile file(scratch / "metrics.prom", {}, 3);
  EXPECT_EQ(slurp(scratch / "metrics.prom"), prometheus_text({.step = 3, .values = {}}, {}));
  for (int64_t step = 4; step <= 200; ++step) file.report({.step = step, .values = {{"loss", 0.5}}});
  EXPECT_FALSE(contains(slurp(scratch / "metrics.prom"), "fpdist_step 200\n"));
  file.close();
  EXPECT_TRUE(contains(slurp(scratch / "metrics.prom"), "fpdist_step 200\n"));
  EXPECT_EQ(test::names_in(scratch.path()), std::vector<std::string>{"metrics.prom"});
}

}  // namespace
}  // namespace fpdist::trainer
