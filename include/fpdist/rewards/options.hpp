#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace fpdist {
struct Key;
}
namespace fpdist::rewards {

struct RewardOptions {
  /// Built-in rewards by name (rewards.hpp says what each gives); a completion's reward is their weighted sum.
  std::vector<std::string> functions = {};
  /// What each is multiplied by, in their order and behind them the command's; empty: 1.
  std::vector<double> weights = {};
  /// A program that gives rewards, its words in a list; a single entry is cut at its blanks. No shell reads it.
  std::vector<std::string> command = {};
  /// Seconds that it may take for the completions of one round.
  double timeout_seconds = 60.0;
  /// The prompts' column that holds the right answer, of those that compare with one.
  std::string answer_column = "answer";
  /// regex: what is looked for in the completion, an extended POSIX expression.
  std::string pattern = {};
  /// length: the last so many tokens of rollout.max_completion_length, over which the reward falls from 0 to -1.
  int64_t soft_punish_cache = 128;
  /// repetition: words of one n-gram, and the reward of a text that says nothing but one.
  int64_t ngram_size = 3;
  double max_penalty = -1.0;

  static std::span<const Key> keys();
};

}  // namespace fpdist::rewards
