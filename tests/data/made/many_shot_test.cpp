// The many-shot generator: long prompts of worked examples in front of questions.

#include <gtest/gtest.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/data/made/generate.hpp"
#include "tests/data/rows/reader_fixture.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::data {
namespace {

using test::ReaderTest;

using Json = nlohmann::json;

/// Rows "Q0?" to "Q19?": even ones have one right answer of three, odd ones none; awkward characters everywhere.
std::string some_rows(int count = 20) {
  std::string rows;
  for (int i = 0; i < count; ++i) {
    const std::string number = std::to_string(i);
    rows += Json{{"prompt", "Q" + number + " \"é\\\t\x01?\nA:"},
                 {"completions", {" wrong " + number, " right " + number + "\n", " bad " + number}},
                 {"rewards", {0.0, i % 2 == 0 ? 0.1 : 0.0, 0.0}}}
                .dump() +
            "\n";
  }
  return rows;
}

class ManyShot : public ReaderTest {
 protected:
  std::string generated(ManyShotOptions options, std::string_view rows) const {
    options.input = write("groups.jsonl", rows);
    return many_shot_rows(options);
  }
  template <typename ErrorType>
  std::string refusal(const ManyShotOptions& options, std::string_view rows) const {
    return test::refusal<ErrorType>([&] { generated(options, rows); });
  }
};

TEST_F(ManyShot, QuestionsShareAPreambleThatWorksNoneOfThem) {
  std::istringstream lines(generated({.input = "", .tokens = 100, .questions = 3, .seed = 5}, some_rows()));
  std::string line, preamble;
  std::vector<std::string> asked;
  while (std::getline(lines, line)) {
    const Json row = Json::parse(line);
    const std::string prompt = row["prompt"];
    const size_t question = prompt.rfind('Q');
    if (asked.empty()) preamble = prompt.substr(0, question);
    EXPECT_EQ(prompt.substr(0, question), preamble);
    asked.push_back(prompt.substr(question));
    const std::string number = asked.back().substr(1, asked.back().find(' ') - 1);
    EXPECT_EQ(row["completions"], Json({" wrong " + number, " right " + number + "\n", " bad " + number}));
    EXPECT_EQ(row["rewards"], Json({0.0, 0.1, 0.0}));
  }
  ASSERT_EQ(asked.size(), 3u);
  EXPECT_GE(preamble.size(), 100u);
  EXPECT_LT(preamble.size(), 150u);  // stops at the first example past the mark
  EXPECT_TRUE(test::contains(preamble, "?\nA: right ")) << preamble;
  EXPECT_FALSE(test::contains(preamble, "wrong") || test::contains(preamble, "bad"));
  for (const std::string& question : asked) EXPECT_FALSE(test::contains(preamble, question)) << question;
}

TEST_F(ManyShot, AQuestionAskedTwiceInTheInputIsNotWorkedEither) {
  const std::string rows = some_rows(6);
  const std::string out = generated({.input = "", .tokens = 20, .questions = 2, .seed = 1}, rows + rows);
  std::istringstream lines(out);
  std::string line;
  std::vector<std::string> prompts;
  while (std::getline(lines, line)) prompts.push_back(Json::parse(line)["prompt"]);
  ASSERT_EQ(prompts.size(), 2u);
  EXPECT_NE(prompts[0], prompts[1]);
  for (const std::string& prompt : prompts) {
    const std::string question = prompt.substr(prompt.rfind('Q'));
    EXPECT_EQ(prompt.find(question), prompt.rfind('Q'));
  }
}

TEST_F(ManyShot, RowsAreReadBackAsOneLongSharedPrompt) {
  DataOptions options;
  options.max_length = 200;
  const Dataset data =
      read(Method::kGrpo, generated({.input = "", .tokens = 140, .questions = 4, .seed = 0}, some_rows()), options);
  EXPECT_EQ(data.group.size(), 4u);
  EXPECT_EQ(data.truncated_samples + data.dropped_rows, 0);
  for (const Group& group : data.group)
    for (const Sample& sample : group.sample) EXPECT_GE(sample.prompt_length, 140);
}

TEST_F(ManyShot, TheSameOptionsGiveTheSameBytes) {
  const auto of = [&](uint64_t seed) {
    return generated({.input = "", .tokens = 50, .questions = 2, .seed = seed}, some_rows());
  };
  EXPECT_EQ(of(1), of(1));
  EXPECT_NE(of(1), of(2));
}

TEST_F(ManyShot, WhatTheInputCannotGiveIsSaid) {
  ManyShotOptions options{.input = "", .tokens = 10000, .questions = 2, .seed = 0};
  const std::string few = refusal<ConfigError>(options, some_rows());
  // 8 of the 10 answered rows are left, of 25 bytes each, 2 more where the number has two digits.
  EXPECT_TRUE(test::contains(few, "too few worked examples") && test::contains(few, "10000 are asked for")) << few;
  EXPECT_TRUE(test::contains(few, "hold 20") || test::contains(few, "hold 21")) << few;
  options.tokens = 10, options.questions = 11;
  const std::string questions = refusal<ConfigError>(options, some_rows());
  EXPECT_TRUE(test::contains(questions, "has 10 questions") && test::contains(questions, "11 are asked for"))
      << questions;
  options.questions = 0;
  EXPECT_TRUE(test::contains(refusal<ConfigError>(options, some_rows()), "1 or more"));
  options.questions = 1, options.tokens = 0;
  EXPECT_TRUE(test::contains(refusal<ConfigError>(options, some_rows()), "1 or more"));
}

TEST_F(ManyShot, AnInputThatIsNoGroupsFileIsADataError) {
  ManyShotOptions options{.input = (folder_ / "missing.jsonl").string(), .tokens = 10, .questions = 1, .seed = 0};
  EXPECT_THROW(many_shot_rows(options), DataError);
  EXPECT_TRUE(test::contains(refusal<DataError>(options, "{\"prompt\": \"a\", \"completion\": \"b\"}\n"),
                             "needs 'reward' or 'advantage'"));
  EXPECT_TRUE(test::contains(
      refusal<DataError>(options, "{\"prompt\": \"a\", \"completions\": [\"b\", \"c\"], \"advantages\": [1, -1]}\n"),
      "rewards"));
  EXPECT_TRUE(test::contains(
      refusal<DataError>(options, "{\"prompt_ids\": [300], \"completions\": [{\"ids\": [1], \"reward\": 1}]}\n"),
      "no bytes"));
  const std::string nothing = "{\"prompt_ids\": [], \"completions\": [{\"ids\": [], \"reward\": 1}]}\n";
  EXPECT_TRUE(test::contains(refusal<DataError>(options, nothing), "this one has none: give it one"));
}

TEST_F(ManyShot, RowsWithOneCompletionOfAPromptAreOneQuestion) {
  std::string flat, whole;
  for (int i = 0; i < 20; ++i) {
    const std::string prompt = text("Q", i, "? ");
    whole += Json{{"prompt", prompt}, {"completions", {"a", "b"}}, {"rewards", {1, 0}}}.dump() + "\n";
    flat += Json{{"prompt", prompt}, {"completion", "a"}, {"reward", 1}}.dump() + "\n" +
            Json{{"prompt", prompt}, {"completion", "b"}, {"reward", 0}}.dump() + "\n";
  }
  const ManyShotOptions options{.input = "", .tokens = 50, .questions = 3, .seed = 2};
  EXPECT_EQ(generated(options, flat), generated(options, whole));
}

}  // namespace
}  // namespace fpdist::data
