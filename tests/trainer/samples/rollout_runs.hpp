#pragma once
// Tests: runs that make their own rollouts, on thread ranks.

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "tests/trainer/run/runs.hpp"

namespace fpdist::test {

class RolloutRun : public Runs {
 protected:
  RolloutRun() {
    config_ = online(tiny_config(Method::kGrpo));
    config_.loss.beta = 0;
  }
  config::Config online(config::Config config) {
    config.data.path.clear(), config.data.max_length = 1024;
    config.train = {.groups_per_step = 2, .max_steps = 5, .save_steps = 1, .resume_from_checkpoint = "auto"};
    config.train.save_async = false;
    config.rollout.prompts = {prompts(6)};
    config.rollout.num_generations = 3, config.rollout.max_completion_length = 5, config.rollout.seed = 4;
    config.rollout.log_completions = true;
    config.reward = {
        .functions = {"regex", "length"}, .weights = {1, 0.25}, .pattern = "[a-z]", .soft_punish_cache = 5};
    return config;
  }
  std::string prompts(int count) {
    const std::string path = scratch_ / text("prompts", count, ".jsonl");
    std::string lines;
    for (int i = 0; i < count; ++i)
      lines += i % 2 ? text(R"({"prompt": "Say )", i, R"(", "answer": ")", i, "\"}\n")
                     : text(R"({"prompt_ids": [3, 1, 4, )", i, "]}\n");
    spill(path, lines);
    return path;
  }
  /// `count` prompts that bring demonstrations, text and ids; of each, `hybrids` completions begin with one.
  config::Config with_hybrids(config::Config config, int count, int64_t hybrids) {
    const std::string path = scratch_ / text("shown", count, ".jsonl");
    std::string lines;
    for (int i = 0; i < count; ++i)
      lines +=
          i % 2 ? text(R"({"prompt": "Say )", i, R"(", "answer": ")", i, R"(", "demonstration": "It is )", i, "\"}\n")
                : text(R"({"prompt_ids": [3, 1, 4, )", i, R"(], "demonstration_ids": [40, 41, 42, 43, 44, 45]})", "\n");
    spill(path, lines);
    config.rollout.prompts = {path}, config.rollout.num_hybrids = hybrids;
    config.rollout.prefix_low = "linear_decay,0.9,0.1,4";
    config.loss.prefix_advantage = "dr_grpo", config.loss.prefix_entropy_keep = 0.5;
    return config;
  }
  /// All that was sampled: the completion files, in order.
  std::vector<std::string> sampled(const config::Config& config) const {
    std::vector<std::string> files;
    const std::string folder = config.train.output_dir + "/completions";
    for (const std::string& name : names_in(folder)) files.push_back(name + "\n" + slurp(folder + "/" + name));
    return files;
  }
  static std::vector<nlohmann::json> rows(const std::string& path) {
    std::vector<nlohmann::json> all;
    std::istringstream lines(slurp(path));
    for (std::string line; std::getline(lines, line);) all.push_back(nlohmann::json::parse(line));
    return all;
  }
};

}  // namespace fpdist::test
