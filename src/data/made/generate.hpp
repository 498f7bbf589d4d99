#pragma once
// data: data sets that the project makes itself, for the quickstart, for long contexts and for tests.

#include <cstdint>
#include <string>

namespace fpdist::data {

/// `pairs` JSON lines, preference rows (`prompt`, `chosen`, `rejected`) about integer arithmetic: every prompt is the
/// same few-shot preamble of `shots` worked examples followed by one question; `chosen` is right, `rejected` is wrong.
/// Every sum needs a carry: `chosen` works column by column and carries, `rejected` forgets the carry and writes the
/// column sums side by side, so the method can be told apart as well as the number. Five shots make some 350 bytes.
/// Throws ConfigError for negative counts. The same (pairs, shots, seed) give the same bytes everywhere.
std::string arithmetic_pairs(int64_t pairs, int shots, uint64_t seed);

/// JSON lines of prompts with their answers (`prompt`, `answer`) for runs that make their own rollouts: every sum of
/// two digits that is one digit, "3+4=" and "7", 55 rows.
std::string digit_sums();

struct ManyShotOptions {
  /// GRPO text rows (`prompt`, `completions`, `rewards`) that give both the questions and the worked examples.
  std::string input;
  /// Least tokens (bytes) of the worked examples in front of each question.
  int64_t tokens = 16384;
  /// Rows to make.
  int64_t questions = 4;
  uint64_t seed = 0;
};

/// GRPO rows as JSON lines (`prompt`, `completions`, `rewards`) with a long prompt: the same many-shot preamble of
/// worked examples, then a question of its own with that question's completions and rewards. A worked example is a
/// prompt with its completion of highest reward (rows of one prompt, such as flat ones with one completion each, are
/// one question), which must be above 0; a question has completions of different rewards. No question is worked in the
/// preamble. Which rows become what is drawn from the seed. Throws DataError for an input that is missing or no GRPO
/// text file; ConfigError for counts below 1 and when the input holds too few questions or too few examples (the text
/// says how many tokens there are). The same options and input give the same bytes everywhere.
std::string many_shot_rows(const ManyShotOptions& options);

}  // namespace fpdist::data
