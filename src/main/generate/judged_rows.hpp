#pragma once
// main: what the completions of a file are worth.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "fpdist/data/prompts.hpp"
#include "fpdist/generate/generate.hpp"
#include "fpdist/rewards/rewards.hpp"
#include "src/main/generate/generate_request.hpp"

namespace fpdist::main_program {

class RowJudge {
 public:
  /// Throws as rewards::Rewards does.
  explicit RowJudge(const GenerateRequest& request);
  /// Gives each of `row`'s completions its reward; nothing where no reward was asked for.
  void judge(const data::PromptRow& prompt, const std::vector<generate::Completion>& completions,
             data::Tokenizer& tokenizer, nlohmann::json& row);
  /// "reward 0.5, accuracy 0.250 +- 0.050, pass@1 ..." of all so far, with standard errors; "" where nothing judges.
  std::string summary() const;

 private:
  rewards::Rewards rewards_;
  std::vector<int64_t> pass_at_;
  int64_t of_prompt_;
  std::vector<std::string> stop_;
  std::vector<bool> right_;
  double sum_ = 0, judged_ = 0;
};

}  // namespace fpdist::main_program
