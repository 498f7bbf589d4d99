#pragma once
// rewards: what a completion is worth. Built in, by name; on the text of a completion (answers may stand anywhere in
// it) and the row's answer (RewardOptions::answer_column):
//   exact           1 where the text is the answer, blanks around both left out
//   contains        1 where the answer stands in it
//   gsm8k           1 where the number behind its last "####" is the answer's (the answer's last "####", or all of it)
//   gsm8k_flexible  the same of the last number in its last 300 characters
//   boxed           1 where its last boxed{...} is the answer (or the answer's own), as MATH normalises both
//   regex           1 where RewardOptions::pattern matches somewhere
//   format          1 where it is a think element and the answer behind that (TRL's think_format_reward)
//   length          0, falling to -1 over the last soft_punish_cache tokens that are allowed: Yu et al., "DAPO" (2025),
//                   equation 13
//   repetition      max_penalty times the share of n-grams that came before (TRL's repetition penalty)
// Numbers are compared as decimals: 18, 18.0 and $1,800.50's digits by value, not by spelling. Time is linear in the
// text. A row without an answer gets none from those that compare with it.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fpdist/data/prompts.hpp"
#include "fpdist/rewards/options.hpp"

namespace fpdist::rewards {

/// A completion that is judged.
struct JudgedText {
  const data::PromptRow* row = nullptr;    ///< its prompt
  std::string text;                        ///< without the stop token, or the stop text and what follows it
  std::vector<int32_t> token;              ///< the stop token among them
  std::string finish_reason;               ///< stop | stop_string | length
  std::optional<std::string> answer = {};  ///< of the row, see answer_of
};

/// One for each text; nothing: it does not judge this one.
using Values = std::vector<std::optional<double>>;
/// What judges completions. Called on every rank with that rank's, several times a round perhaps, never twice at once.
using RewardFunction = std::function<Values(std::span<const JudgedText>)>;

/// Numbers that a program says of completions beside their rewards.
struct SaidNumbers {
  double sum = 0;
  int64_t count = 0;
};
using SaidByName = std::map<std::string, SaidNumbers>;

struct NamedReward {
  std::string name;
  RewardFunction function;
  double weight = 1;
};

bool is_builtin(std::string_view name);
/// "exact | contains | ..."
std::string_view builtin_names();
/// Whether it says right (1) or wrong (0).
bool is_check(std::string_view name);

/// The row's answer as text: a string as it is, a number as it is written; nothing where the column is not there.
std::optional<std::string> answer_of(const data::PromptRow& row, const std::string& column);

/// Throws ConfigError for options that make no sense; of their program nothing is known yet.
void check_rewards(const RewardOptions& options, int64_t max_completion_length);

/// The rewards of a run, on one rank.
class Rewards {
 public:
  /// Those that the options name; their program is started. `max_completion_length`: of rollouts. Throws as
  /// check_rewards does, and DataError for a program that cannot be started.
  Rewards(const RewardOptions& options, int64_t max_completion_length);
  ~Rewards();
  Rewards(Rewards&&) noexcept;
  Rewards& operator=(Rewards&&) noexcept;
  /// One of the caller's own, behind the others.
  void add(NamedReward reward);

  /// In order: the functions', "command", the caller's.
  const std::vector<std::string>& names() const;
  /// What the rows' answers are called.
  const std::string& answer_column() const;
  /// [names()][texts]. Throws DataError, naming the reward and the completion, for values that are not finite, too many
  /// or too few, and for a program that died, was silent for too long or wrote what is no answer, twice in a row.
  std::vector<Values> judge(std::span<const JudgedText> texts);
  /// A round is over: what the program has said besides in it. It has all of timeout_seconds for the next one, and may
  /// be started once more in it.
  SaidByName end_round();
  /// Nobody wants the rest of this round, until end_round: a judge() that waits for the program, on whatever thread,
  /// throws DataError soon and not after timeout_seconds; functions go on to their end.
  void give_up();
  /// [texts] the weighted sum over those that judge it; nothing where none does.
  Values total(std::span<const Values> by_name) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// The share of draws of `k` of `samples` completions that have a right one, `right` being so many of them: Chen et
/// al., "Evaluating large language models trained on code" (2021), equation 1. Throws ConfigError for k > samples.
double pass_at(int64_t k, int64_t samples, int64_t right);

}  // namespace fpdist::rewards
