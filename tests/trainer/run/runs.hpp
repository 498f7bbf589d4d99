#pragma once
// Tests: whole runs on thread ranks that end early, go on and are held against one that never stopped.

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/trainer/trainer.hpp"
#include "tests/support/files/scratch.hpp"
#include "tests/support/words/error_of.hpp"
#include "tests/support/words/heard_log.hpp"
#include "tests/trainer/tiny_config.hpp"

namespace fpdist::test {

using trainer::RunEnd, trainer::StepMetrics, trainer::Trainer;

/// Whether a metric depends on the clock; as launch/compare_runs.py has it.
inline bool is_time(const std::string& name) {
  for (const char* end : {"seconds", "bubble", "imbalance", "_per_second", "_runtime", "tail_fraction"})
    if (name.ends_with(end)) return true;
  return name == "mfu" || name == "exposed_communication";
}

class Runs : public ::testing::Test {
 protected:
  Runs() {
    at::set_num_threads(1);
    config_ = tiny_config(Method::kDpo);
    config_.train.groups_per_step = 4, config_.train.max_steps = 6, config_.train.save_steps = 2;
    config_.train.resume_from_checkpoint = "auto", config_.train.save_async = false;
    config_.data.path = {rows(16)};
  }

  /// A file of so many pairs.
  std::string rows(int count, int seed = 0) {
    const std::string path = scratch_ / text("rows", count, "_", seed, ".jsonl");
    std::string lines;
    for (int i = 0; i < count; ++i)
      lines += text(R"({"prompt_ids": [1, 2, )", 3 + i % 3, ", ", 20 + i + seed, R"(], "chosen_ids": [7, 8, )", 30 + i,
                    R"(], "rejected_ids": [7, )", 60 + i % 5, "]}\n");
    spill(path, lines);
    return path;
  }
  /// The same for sft.
  std::string learned_rows(int count) {
    const std::string path = scratch_ / "learned.jsonl";
    std::string lines;
    for (int i = 0; i < count; ++i)
      lines += text(R"({"input_ids": [1, 2, )", 3 + i % 3, ", ", 20 + i, R"(], "labels": [-100, -100, )", 3 + i % 3,
                    ", ", 20 + i, "]}\n");
    spill(path, lines);
    return path;
  }
  config::Config in(const std::string& name, config::Config config) const {
    config.train.output_dir = scratch_ / name;
    return config;
  }

  /// A run to its end, or into step `fails_in`, before its row is written and a checkpoint of it saved.
  RunEnd run(const config::Config& config, int ranks, std::optional<int64_t> fails_in = {}) {
    RunEnd end = RunEnd::kDone;
    log_.emplace();
    const auto body = [&](comm::World& world) {
      Trainer trainer(world, config, *log_);
      trainer.set_hook([&](const StepMetrics& step) { check<CommError>(step.step != fails_in, "a lost rank"); });
      if (world.rank() == 0) trainer.set_stop([&] { return stop_after_ == trainer.steps_done(); });
      if (world.rank() != 0) trainer.set_stop([] { return false; });
      const RunEnd own = trainer.train();
      if (world.rank() == 0) end = own;
    };
    const comm::CommOptions patient{.timeout = std::chrono::seconds(60)};
    if (fails_in) {
      EXPECT_THROW(comm::run_threads(ranks, body, patient), CommError);
    } else {
      comm::run_threads(ranks, body, patient);
    }
    return end;
  }
  std::string said() const { return log_->said(); }

  /// metrics.jsonl without what depends on the clock.
  std::vector<nlohmann::json> metrics(const config::Config& config) const {
    std::vector<nlohmann::json> rows;
    std::istringstream lines(slurp(config.train.output_dir + "/metrics.jsonl"));
    for (std::string line; std::getline(lines, line);) {
      nlohmann::json row = nlohmann::json::parse(line), kept;
      for (const auto& [name, value] : row.items())
        if (!is_time(name)) kept[name] = value;
      rows.push_back(kept);
    }
    return rows;
  }
  std::string weights(const config::Config& config) const {
    return slurp(config.train.output_dir + "/final/model.safetensors");
  }
  void expect_same_bits(const config::Config& one, const config::Config& other) const {
    EXPECT_EQ(metrics(one), metrics(other));
    EXPECT_FALSE(weights(one).empty());
    EXPECT_TRUE(weights(one) == weights(other)) << "the weights differ";
  }
  std::vector<std::string> names(const config::Config& config) const { return names_in(config.train.output_dir); }

  const Scratch scratch_;
  config::Config config_;
  std::optional<HeardLog> log_;
  int64_t stop_after_ = -1;  ///< steps
};

}  // namespace fpdist::test
