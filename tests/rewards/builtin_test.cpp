// Built-in rewards: what each says of a text, and how they add up.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/rewards/accuracy.hpp"
#include "fpdist/rewards/rewards.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::rewards {
namespace {

using test::error_of, test::expect_words;

RewardOptions options_of(const std::string& function) { return {.functions = {function}}; }

std::optional<double> value_of(const RewardOptions& options, const std::string& text, const std::string& answer,
                               int64_t tokens = 1) {
  const data::PromptRow row{.token = {1}, .prompt = "\"?\"", .columns = "{}"};
  Rewards rewards(options, 10);
  const JudgedText one{.row = &row,
                       .text = text,
                       .token = std::vector<int32_t>(static_cast<size_t>(tokens), 1),
                       .finish_reason = "stop",
                       .answer = answer};
  return rewards.judge({&one, 1}).front().front();
}

struct Said {
  const char *function, *text, *answer;
  double value;
};

TEST(BuiltIn, ChecksSayRightOrWrong) {
  for (const Said& said : {
           Said{"exact", " 42\n", "42", 1},
           Said{"exact", "42.", "42", 0},
           Said{"exact", "", "", 1},
           Said{"contains", "it is 42 then", " 42 ", 1},
           Said{"contains", "it is 4", "42", 0},
           Said{"gsm8k", "2+2=4\n#### 4", "so\n#### 4", 1},
           Said{"gsm8k", "#### 4 #### 5", "5", 1},
           Said{"gsm8k", "#### $1,800.50 in all", "1800.5", 1},
           Said{"gsm8k", "#### 18.0", "18", 1},
           Said{"gsm8k", "#### -0", "0", 1},
           Said{"gsm8k", "#### 018", "18", 1},
           Said{"gsm8k", "#### -3", "3", 0},
           Said{"gsm8k", "####", "3", 0},
           Said{"gsm8k", "the answer is 3", "3", 0},
           Said{"gsm8k", "#### x", "3", 0},
           Said{"gsm8k", "#### 1,2,3", "1", 0},
           Said{"gsm8k", "#### 3.", "3", 1},
           Said{"gsm8k", "#### ", "no number", 0},
           Said{"gsm8k_flexible", "first 7, then 12.50 apples.", "12.5", 1},
           Said{"gsm8k_flexible", "no number", "3", 0},
           Said{"gsm8k_flexible", "3 and 4", "3", 0},
           Said{"boxed", "so \\boxed{\\frac12}", "\\dfrac{1}{2}", 1},
           Said{"boxed", "\\boxed{1/2}", "\\frac{1}{2}", 1},
           Said{"boxed", "\\boxed{1} no, \\boxed{\\sqrt{2}}", "so \\boxed{\\sqrt2}", 1},
           Said{"boxed", "\\boxed{x=5}", "5", 1},
           Said{"boxed", "\\boxed{1,234.0}", "1234", 1},
           Said{"boxed", "\\boxed{10\\text{ cm}}", "10", 1},
           Said{"boxed", "\\boxed{90^\\circ}", "90", 1},
           Said{"boxed", "\\boxed{\\left(1, 2\\right)}", "(1,2)", 1},
           Said{"boxed", "\\boxed{\\text{Evelyn}}", "Evelyn", 1},
           Said{"boxed", "\\boxed{50\\%}", "50", 1},
           Said{"boxed", "\\boxed{{1}", "1", 0},
           Said{"boxed", "1", "1", 0},
           Said{"boxed", "\\boxed{\\frac", "1", 0},
           Said{"boxed", "\\boxed{\\frac{1}", "1", 0},
           Said{"boxed", "\\boxed{2}", "3", 0},
           Said{"format", "<think>a</think>b", "", 1},
           Said{"format", "<think></think>", "", 1},
           Said{"format", "a<think>b</think>", "", 0},
           Said{"format", "<think>a", "", 0},
           Said{"format", "<think><think></think>", "", 0},
           Said{"format", "<think>a</think><think>", "", 0},
       })
    EXPECT_EQ(value_of(options_of(said.function), said.text, said.answer), said.value)
        << said.function << ": " << said.text << " against " << said.answer;
}

TEST(BuiltIn, PatternsLengthsAndRepetitionsAreMeasured) {
  RewardOptions pattern = options_of("regex");
  pattern.pattern = "^answer: [0-9]+$";
  EXPECT_EQ(value_of(pattern, "answer: 12", ""), 1);
  EXPECT_EQ(value_of(pattern, "the answer: 12", ""), 0);
  EXPECT_EQ(value_of(pattern, std::string("answer: 12\0x", 12), ""), 0) << "a text does not end at a zero";

  RewardOptions length = options_of("length");
  length.soft_punish_cache = 4;  // of 10 tokens
  EXPECT_EQ(value_of(length, "", "", 6), 0);
  EXPECT_EQ(value_of(length, "", "", 7), -0.25);
  EXPECT_EQ(value_of(length, "", "", 10), -1);

  RewardOptions repetition = options_of("repetition");
  repetition.ngram_size = 2;
  EXPECT_EQ(value_of(repetition, "a b c d", ""), 0);
  EXPECT_EQ(value_of(repetition, "a B  a b\na", ""), -0.5) << "ab ba ab ba";
  EXPECT_EQ(value_of(repetition, "a", ""), 0);
}

TEST(BuiltIn, ARowWithoutAnAnswerGetsNone) {
  const data::PromptRow row{.token = {1}, .prompt = "[1]", .columns = R"({"answer": null, "gold": 7, "text": "7"})"};
  EXPECT_EQ(answer_of(row, "answer"), std::nullopt);
  EXPECT_EQ(answer_of(row, "none"), std::nullopt);
  EXPECT_EQ(answer_of(row, "gold"), "7");
  EXPECT_EQ(answer_of(row, "text"), "7");
  Rewards rewards({.functions = {"exact", "format"}}, 10);
  const JudgedText one{.row = &row, .text = "7", .token = {1}, .finish_reason = "stop"};
  const auto values = rewards.judge({&one, 1});
  EXPECT_EQ(values[0][0], std::nullopt);
  EXPECT_EQ(rewards.total(values)[0], 0) << "the sum of those that judge";
}

TEST(Rewards, AddUpByTheirWeights) {
  const data::PromptRow row{.token = {1}, .prompt = "[1]"};
  Rewards rewards({.functions = {"format", "length"}, .weights = {2, 0.5}, .soft_punish_cache = 10}, 10);
  rewards.add({"own", [](std::span<const JudgedText> texts) { return Values(texts.size()); }, 3});
  EXPECT_EQ(rewards.names(), (std::vector<std::string>{"format", "length", "own"}));
  const std::vector<JudgedText> texts(
      2, {.row = &row, .text = "<think></think>", .token = {1, 2, 3}, .finish_reason = "stop"});
  EXPECT_EQ(rewards.total(rewards.judge(texts)), (Values{2 - 0.5 * 0.3, 2 - 0.5 * 0.3}));
  Rewards none({}, 10);
  EXPECT_TRUE(none.judge(texts).empty());
  none.add({"silent", [](std::span<const JudgedText> all) { return Values(all.size()); }});
  EXPECT_EQ(none.total(none.judge(texts)), Values(2)) << "judged by none: no reward";
}

TEST(Rewards, RefuseWhatMakesNoSense) {
  const auto made = [](const RewardOptions& options) { return error_of<ConfigError>([&] { Rewards(options, 10); }); };
  expect_words(made({.functions = {"nonsense"}}), {"'nonsense'; built in are exact | contains | gsm8k"});
  expect_words(made({.functions = {"exact", "format"}, .weights = {1}}),
               {"reward.weights has 1", "there are 2 rewards"});
  expect_words(made({.functions = {"exact", "exact"}}), {"two rewards exact"});
  expect_words(made({.functions = {"regex"}}), {"reward.pattern"});
  expect_words(made({.functions = {"regex"}, .pattern = "(a"}), {"reward.pattern '(a' is no expression"});
  expect_words(made({.functions = {"length"}, .soft_punish_cache = 11}), {"reward.soft_punish_cache is 11", "(10)"});
  expect_words(made({.functions = {"exact"}, .weights = {NAN}}), {"weight of reward exact is nan"});

  const data::PromptRow row{.token = {1}, .prompt = "[1]"};
  const JudgedText one{.row = &row, .text = "", .token = {1}, .finish_reason = "stop"};
  const auto judged = [&](Values values) {
    Rewards rewards({}, 10);
    rewards.add({"own", [values](std::span<const JudgedText>) { return values; }});
    return error_of<DataError>([&] { rewards.judge({&one, 1}); });
  };
  expect_words(judged({NAN}), {"reward own gave nan for completion 0 of prompt [1]", "finite"});
  expect_words(judged({std::numeric_limits<double>::infinity()}), {"reward own gave inf"});
  expect_words(judged({1, 2}), {"reward own gave 2 values for 1 completions"});
  expect_words(judged({}), {"reward own gave 0 values"});
}

TEST(PassAt, IsTheShareOfDrawsThatHaveARightOne) {
  EXPECT_EQ(pass_at(1, 4, 1), 0.25);
  EXPECT_NEAR(pass_at(2, 4, 1), 0.5, 1e-15);
  EXPECT_NEAR(pass_at(2, 4, 2), 1 - 1.0 / 6, 1e-15);
  EXPECT_EQ(pass_at(4, 4, 1), 1);
  EXPECT_EQ(pass_at(3, 4, 0), 0);
  expect_words(error_of<ConfigError>([] { (void)pass_at(5, 4, 1); }), {"pass@5 of 4 completions"});

  const std::vector<std::string> names{"length", "exact", "contains"};
  const std::vector<Values> said{{2, 2, 2, 2}, {1, std::nullopt, 0, 0}, {1, 1, 1, 1}};
  const Values total{3, 0.5, 1, std::nullopt};
  const std::vector<bool> right = right_ones(said, names, total);
  EXPECT_EQ(right, (std::vector<bool>{true, false, false, false})) << "the first that checks decides";
  EXPECT_EQ(right_ones({}, {}, total), (std::vector<bool>{true, false, true, false}));
  const std::vector<int64_t> ks{1, 2};
  EXPECT_EQ(shares_of(right, 2, ks), (std::map<std::string, double>{{"accuracy", 0.25},
                                                                    {"accuracy_stderr", 0.25},  // of 0.5 and 0
                                                                    {"pass@1", 0.25},
                                                                    {"pass@1_stderr", 0.25},
                                                                    {"pass@2", 0.5},
                                                                    {"pass@2_stderr", 0.5}}));
  for (const auto& [name, share] : shares_of({}, 2, ks)) EXPECT_EQ(share, 0) << name;
  EXPECT_EQ(shares_of({true, false}, 2, ks).at("pass@1_stderr"), 0) << "of a single prompt";
}

}  // namespace
}  // namespace fpdist::rewards
