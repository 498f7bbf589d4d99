#include "src/trainer/run/run_files.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/trainer/run/output_dir.hpp"
#include "tests/support/files/full_disk.hpp"
#include "tests/support/files/scratch.hpp"
#include "tests/support/ranks/error_on_ranks.hpp"
#include "tests/support/words/error_of.hpp"
#include "tests/support/words/heard_log.hpp"

namespace fpdist::trainer {
namespace {

using test::contains, test::expect_words, test::FileSizeLimit, test::HeardLog, test::Scratch, test::slurp;

TEST(RankLog, WritesEveryLineToTheFileAndErrorsToTheSink) {
  const Scratch scratch;
  HeardLog sink;
  {
    RankLog log(sink, scratch / "rank_1.log", /*to_sink=*/false);
    log.info("begun");
    log.error("lost");
  }
  const std::string file = slurp(scratch / "rank_1.log");
  EXPECT_TRUE(contains(file, " info begun\n") && contains(file, " error lost\n")) << file;
  EXPECT_EQ(sink.said(), "error lost\n");
}

TEST(RankLog, AFullDiskIsToldOnceAndTrainingGoesOn) {
  HeardLog sink;
  {
    RankLog log(sink, test::kFullDevice, /*to_sink=*/true);
    log.info("one");
    log.progress("two");
  }
  ASSERT_EQ(sink.lines().size(), 2U);
  expect_words(sink.said(), {"error cannot write /dev/full: No space left", "training goes on", "\ninfo one\n"});
  EXPECT_EQ(sink.progressed(), std::vector<std::string>{"two"});
}

TEST(RankLog, AFileThatCannotBeOpenedIsToldOnce) {
  const Scratch scratch;
  HeardLog sink;
  RankLog log(sink, scratch / "none/rank_1.log", /*to_sink=*/false);
  log.info("one");
  ASSERT_EQ(sink.lines().size(), 1U);
  expect_words(sink.said(), {"none/rank_1.log: No such file or directory"});
}

TEST(OutputDirectory, AConfigThatCannotBeWrittenStopsEveryRankWithTheSameWords) {
  const Scratch scratch;
  config::Config config;
  config.train.output_dir = scratch / "out";
  const FileSizeLimit limit(10);
  const std::string what = test::error_on_ranks<DiskError>(2, [&](comm::World& world) {
    prepare_output_dir(
        config.train, {}, "method: dpo, and more than fits\n", [](const std::string&) { return ""; },
        world.communicator());
  });
  expect_words(what, {"out/config.resolved.yaml: ", "disk full"});
}

TEST(FlightRecord, IsWrittenWholeOrMissed) {
  const Scratch scratch;
  TrainOptions options;
  options.output_dir = scratch.path();
  comm::run_threads(1, [&](comm::World& world) {
    HeardLog log;
    write_flight_record(options, world, {.error = "why", .saving = ""}, log);  // no logs/ there
    ASSERT_EQ(log.lines().size(), 1U);
    expect_words(log.said(), {"no flight record: cannot write "});
    std::filesystem::create_directories(scratch / "logs");
    write_flight_record(options, world, {.error = "why", .saving = ""}, log);
    const std::string first = slurp(scratch / "logs/rank_0.flight.json");
    EXPECT_EQ(nlohmann::json::parse(first).at("error"), "why");
    const FileSizeLimit limit(1);
    write_flight_record(options, world, {.error = "why else", .saving = ""}, log);
    EXPECT_EQ(log.lines().size(), 2U);
    EXPECT_EQ(slurp(scratch / "logs/rank_0.flight.json"), first);
  });
}

}  // namespace
}  // namespace fpdist::trainer
