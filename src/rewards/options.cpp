#include "fpdist/rewards/options.hpp"

#include <array>

#include "fpdist/rewards/rewards.hpp"
#include "src/core/key.hpp"

namespace fpdist::rewards {
namespace {

void check_names(const Valid&, const Field& field, Complaints& complaints) {
  for (const std::string& name : *std::get<Texts*>(field))
    if (!is_builtin(name)) complaints.push_back(text(" has '", name, "'; built in are ", builtin_names()));
}

void check_penalty(const Valid&, const Field& field, Complaints& complaints) {
  const double penalty = *std::get<double*>(field);
  if (!(penalty <= 0)) complaints.push_back(text(" is ", penalty, "; a penalty is 0 or less"));
}

constexpr Valid kTimeout{.values = "> 0", .must = "above 0", .accepts = [](double x) { return x > 0; }};

}  // namespace

std::span<const Key> RewardOptions::keys() {
  using Options = RewardOptions;
  static const std::array kKeys{
      FPDIST_KEY(functions, "built-in rewards of completions, TRL's reward_funcs; their weighted sum is the reward",
                 Valid{.values = builtin_names(), .check = check_names}),
      FPDIST_KEY(weights, "what each is multiplied by, the command's behind them; empty: 1"),
      FPDIST_KEY(command, "a program that gives rewards by JSON lines, its words in a list; no shell reads it"),
      FPDIST_KEY(timeout_seconds, "seconds that the program may take for a round's completions", kTimeout),
      FPDIST_KEY(answer_column, "the prompts' column with the right answer",
                 Valid{.must = "name the column", .check = check_filled}),
      FPDIST_KEY(pattern, "regex: an extended POSIX expression"),
      FPDIST_KEY(soft_punish_cache, "length: tokens at the end of max_completion_length that cost up to 1", kFromOne),
      FPDIST_KEY(ngram_size, "repetition: words of an n-gram", kFromOne),
      FPDIST_KEY(max_penalty, "repetition: the reward of a text that repeats one n-gram alone",
                 Valid{.values = "<= 0", .check = check_penalty})};
  return kKeys;
}

}  // namespace fpdist::rewards
