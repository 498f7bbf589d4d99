#include <algorithm>
#include <charconv>
#include <cstddef>
#include <fstream>
#include <limits>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/core/rng.hpp"
#include "fpdist/data/reader.hpp"
#include "src/data/made/generate.hpp"

namespace fpdist::data {
namespace {

constexpr uint64_t kManyShotStream = uint64_t{0x3a575507} << 32;

/// A row of the input as text again.
struct Problem {
  std::string prompt;
  std::vector<std::string> completion;
  std::vector<double> reward;

  size_t best() const { return static_cast<size_t>(std::max_element(reward.begin(), reward.end()) - reward.begin()); }
  bool has_right_answer() const { return reward[best()] > 0; }
  bool tells_answers_apart() const { return reward[best()] > *std::min_element(reward.begin(), reward.end()); }
};

std::string text_of(const std::vector<int32_t>& token, size_t begin, size_t end, const std::string& input) {
  std::string bytes;
  for (size_t t = begin; t < end; ++t) {
    check<DataError>(token[t] < 256, input, ":1:1: holds token ids that are no bytes: give text rows");
    bytes.push_back(static_cast<char>(token[t]));
  }
  return bytes;
}

Problem problem_of(const Group& group, const std::string& input, int32_t eos) {
  Problem problem;
  for (const Sample& sample : group.sample) {
    check<DataError>(sample.reward.has_value(), input, ":1:1: rows without rewards: give the completions' rewards");
    const auto prompt = static_cast<size_t>(sample.prompt_length);
    const bool ends = !sample.token.empty() && sample.token.back() == eos;
    const size_t end = sample.token.size() - (ends ? 1 : 0);
    problem.prompt = text_of(sample.token, 0, prompt, input);
    problem.completion.push_back(text_of(sample.token, prompt, end, input));
    problem.reward.push_back(*sample.reward);
  }
  return problem;
}

/// The input's rows in an order drawn from the seed.
std::vector<Problem> read_problems(const ManyShotOptions& options) {
  check<DataError>(std::ifstream(options.input).is_open(), options.input,
                   ":1:1: cannot open the input: name a file of GRPO text rows");
  DataOptions data;
  data.path = {options.input};
  data.max_length = std::numeric_limits<int32_t>::max();
  data.group_by = GroupBy::kPrompt;  // rows with one completion make questions as well
  NullLog log;
  const auto tokenizer = make_byte_tokenizer();
  std::vector<Problem> problems;
  for (const Group& group : read_dataset(data, Method::kGrpo, *tokenizer, log).group)
    problems.push_back(problem_of(group, options.input, tokenizer->facts().eos_id));
  Rng rng(options.seed, kManyShotStream);
  for (size_t left = problems.size(); left > 1; --left) std::swap(problems[left - 1], problems[rng.below(left)]);
  return problems;
}

std::string make_preamble(const std::vector<Problem>& problems, const std::set<std::string_view>& asked,
                          const ManyShotOptions& options) {
  std::string preamble;
  const auto long_enough = [&] { return static_cast<int64_t>(preamble.size()) >= options.tokens; };
  for (const Problem& problem : problems) {
    if (long_enough()) break;
    if (!problem.has_right_answer() || asked.count(problem.prompt) > 0) continue;
    preamble += problem.prompt + problem.completion[problem.best()] + "\n\n";
  }
  check<ConfigError>(long_enough(), options.input, " has too few worked examples: those beside the ", options.questions,
                     " questions hold ", preamble.size(), " tokens, ", options.tokens,
                     " are asked for: ask for fewer or give a longer input");
  return preamble;
}

/// A JSON string; the reader has checked that it is UTF-8.
std::string quoted(std::string_view plain) {
  std::string json = "\"";
  for (const char byte : plain) {
    if (byte == '"' || byte == '\\') {
      json += {'\\', byte};
    } else if (byte == '\n') {
      json += "\\n";
    } else if (static_cast<unsigned char>(byte) < 0x20) {
      constexpr std::string_view digits = "0123456789abcdef";
      const auto code = static_cast<size_t>(byte);
      json += {'\\', 'u', '0', '0', digits[code / 16], digits[code % 16]};
    } else {
      json += byte;
    }
  }
  return json + '"';
}

/// The shortest digits that read back as the same number.
std::string shortest(double number) {
  char digits[32];
  return {digits, std::to_chars(digits, digits + sizeof digits, number).ptr};
}

std::string row_of(const std::string& preamble, const Problem& problem) {
  std::string completions, rewards;
  for (size_t i = 0; i < problem.completion.size(); ++i) {
    if (i > 0) completions += ", ", rewards += ", ";
    completions += quoted(problem.completion[i]);
    rewards += shortest(problem.reward[i]);
  }
  return text(R"({"prompt": )", quoted(preamble + problem.prompt), R"(, "completions": [)", completions,
              R"(], "rewards": [)", rewards, "]}\n");
}

}  // namespace

std::string many_shot_rows(const ManyShotOptions& options) {
  check<ConfigError>(options.tokens >= 1 && options.questions >= 1, "cannot put ", options.tokens,
                     " tokens of examples before ", options.questions, " questions: both must be 1 or more");
  const std::vector<Problem> problems = read_problems(options);
  std::vector<const Problem*> question;
  std::set<std::string_view> asked;
  for (const Problem& problem : problems) {
    if (static_cast<int64_t>(question.size()) == options.questions) break;
    if (problem.tells_answers_apart() && asked.insert(problem.prompt).second) question.push_back(&problem);
  }
  check<ConfigError>(static_cast<int64_t>(question.size()) == options.questions, options.input, " has ",
                     question.size(), " questions with completions of different rewards, ", options.questions,
                     " are asked for: ask for fewer or give a longer input");
  const std::string preamble = make_preamble(problems, asked, options);
  std::string rows;
  for (const Problem* problem : question) rows += row_of(preamble, *problem);
  return rows;
}

}  // namespace fpdist::data
