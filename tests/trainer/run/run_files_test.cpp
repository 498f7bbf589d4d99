#include "src/trainer/run/run_files.hpp"

#include <gtest/gtest.h>

#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "fpdist/core/error.hpp"
#include "tests/support/error_of.hpp"
#include "tests/support/full_disk.hpp"
#include "tests/support/scratch.hpp"

namespace fpdist::trainer {
namespace {

using test::contains;
using test::error_of;
using test::FileSizeLimit;
using test::Scratch;
using test::slurp;

/// Keeps what it is told.
class Heard final : public LogSink {
 public:
  void write(LogLevel level, std::string_view line) override {
    const std::lock_guard lock(mutex_);
    all.emplace_back(level, line);
  }
  std::vector<std::pair<LogLevel, std::string>> all;

 private:
  std::mutex mutex_;
};

TEST(RankLog, WritesEveryLineToTheFileAndErrorsToTheSink) {
  const Scratch scratch;
  Heard sink;
  {
    RankLog log(sink, scratch / "rank_1.log", /*to_sink=*/false);
    log.info("begun");
    log.error("lost");
  }
  const std::string file = slurp(scratch / "rank_1.log");
  EXPECT_TRUE(contains(file, " info begun\n") && contains(file, " error lost\n")) << file;
  EXPECT_EQ(sink.all, (std::vector<std::pair<LogLevel, std::string>>{{LogLevel::kError, "lost"}}));
}

TEST(RankLog, AFullDiskIsToldOnceAndTrainingGoesOn) {
  Heard sink;
  {
    RankLog log(sink, test::kFullDevice, /*to_sink=*/true);
    log.info("one");
    log.progress("two");
  }
  ASSERT_EQ(sink.all.size(), 3U);
  EXPECT_EQ(sink.all[0].first, LogLevel::kError);
  EXPECT_TRUE(contains(sink.all[0].second, "/dev/full: No space left") &&
              contains(sink.all[0].second, "training goes on"))
      << sink.all[0].second;
  EXPECT_EQ(sink.all[1].second + sink.all[2].second, "onetwo");
}

TEST(RankLog, AFileThatCannotBeOpenedIsToldOnce) {
  const Scratch scratch;
  Heard sink;
  RankLog log(sink, scratch / "none/rank_1.log", /*to_sink=*/false);
  log.info("one");
  ASSERT_EQ(sink.all.size(), 1U);
  EXPECT_TRUE(contains(sink.all[0].second, "none/rank_1.log: No such file or directory")) << sink.all[0].second;
}

TEST(MetricsFile, AFullDiskIsAnError) {
  MetricsFile file(test::kFullDevice);
  EXPECT_TRUE(contains(error_of<DiskError>([&] { file.write({.step = 1, .values = {{"loss", 0.5}}}); }), "disk full"));
  const Scratch scratch;
  EXPECT_TRUE(contains(error_of<DiskError>([&] { MetricsFile(scratch / "none/metrics.jsonl"); }), "check the path"));
}

TEST(OutputDirectory, AConfigThatCannotBeWrittenStopsEveryRankWithTheSameWords) {
  const Scratch scratch;
  config::Config config;
  config.train.output_dir = scratch / "out";
  const FileSizeLimit limit(10);
  std::mutex mutex;
  std::vector<std::string> said;
  comm::run_threads(2, [&](comm::World& world) {
    const std::string what = error_of<DiskError>(
        [&] { prepare_output_dir(config, "method: dpo, and more than fits\n", world.communicator()); });
    const std::lock_guard lock(mutex);
    said.push_back(what);
  });
  EXPECT_EQ(said[0], said[1]);
  EXPECT_TRUE(contains(said[0], "out/config.resolved.yaml: ") && contains(said[0], "disk full")) << said[0];
}

TEST(FlightRecord, IsWrittenWholeOrMissed) {
  const Scratch scratch;
  TrainOptions options;
  options.output_dir = scratch.path();
  comm::run_threads(1, [&](comm::World& world) {
    Heard log;
    write_flight_record(options, world, "why", log);  // no logs/ there
    ASSERT_EQ(log.all.size(), 1U);
    EXPECT_TRUE(contains(log.all[0].second, "no flight record: cannot write ")) << log.all[0].second;
    std::filesystem::create_directories(scratch / "logs");
    write_flight_record(options, world, "why", log);
    const std::string first = slurp(scratch / "logs/rank_0.flight.json");
    EXPECT_EQ(nlohmann::json::parse(first).at("error"), "why");
    const FileSizeLimit limit(1);
    write_flight_record(options, world, "why else", log);
    EXPECT_EQ(log.all.size(), 2U);
    EXPECT_EQ(slurp(scratch / "logs/rank_0.flight.json"), first);
  });
}

}  // namespace
}  // namespace fpdist::trainer
