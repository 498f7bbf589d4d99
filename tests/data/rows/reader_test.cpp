#include "fpdist/data/reader.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/data/rows/dump_rows.hpp"
#include "tests/data/rows/reader_fixture.hpp"

namespace fpdist::data {
namespace {

using test::ReaderTest;

using Ids = std::vector<int32_t>;
constexpr int32_t kEos = 256;

TEST_F(ReaderTest, TokenRowsAreUsedExactlyAsTheyAre) {
  const Dataset sft = read(Method::kSft, R"({"input_ids": [1,2,3], "labels": [-100,2,9]})");
  EXPECT_EQ(sft.group.at(0).sample.at(0).token, (Ids{1, 2, 3}));
  EXPECT_EQ(sft.group[0].sample[0].target, (Ids{kIgnore, 2, 9}));
  EXPECT_EQ(sft.group[0].sample[0].prompt_length, 0);
  EXPECT_EQ(sft.max_token_id, 9);

  const Dataset pair =
      read(Method::kDpo, R"({"prompt_ids": [5,6], "chosen_ids": [7], "rejected_ids": [], "margin": 0.5})");
  EXPECT_EQ(pair.group.at(0).sample.at(0).token, (Ids{5, 6, 7}));
  EXPECT_EQ(pair.group[0].sample[0].target, (Ids{kIgnore, kIgnore, 7}));
  EXPECT_EQ(pair.group[0].sample.at(1).token, (Ids{5, 6}));
  EXPECT_EQ(pair.group[0].sample[1].prompt_length, 2);
  EXPECT_EQ(pair.group[0].margin, 0.5);
}

TEST_F(ReaderTest, APairWhosePromptsWereCutApartComesBackFromItsDump) {
  DataOptions options;
  options.max_length = 6, options.truncation_mode = Truncation::kKeepEnd;
  for (const Method method : {Method::kDpo, Method::kReward}) {
    Dataset cut = read(Method::kDpo, R"({"prompt": "abcdef", "chosen": "xyz", "rejected": "u"})", options);
    ASSERT_NE(cut.group.at(0).sample[0].prompt_length, cut.group[0].sample[1].prompt_length);
    dump_rows(cut.group, method, (folder_ / "dump.jsonl").string());
    const Dataset back = read(method, test::slurp((folder_ / "dump.jsonl").string()));
    for (size_t s = 0; s < 2; ++s) {
      const Sample &got = back.group.at(0).sample.at(s), &wanted = cut.group[0].sample[s];
      EXPECT_EQ(got.token, wanted.token);
      EXPECT_EQ(got.target, wanted.target);
      EXPECT_EQ(got.prompt_length, wanted.prompt_length);
      EXPECT_EQ(got.truncated, wanted.truncated);
    }
  }
}

TEST_F(ReaderTest, EveryGroupKnowsItsRow) {
  const auto row = [](const std::string& prompt) {
    return R"({"prompt": ")" + prompt +
           R"(", "completion": "c"})"
           "\n";
  };
  DataOptions options;
  options.max_length = 5;
  options.path = {write("a.jsonl", row("x") + row("longer than it may be") + row("y")), write("b.jsonl", row("z"))};
  NullLog log;
  const Dataset data = read_dataset(options, Method::kSft, *tokenizer_, log);
  ASSERT_EQ(data.group.size(), 3U);
  for (const auto& [group, line] : {std::pair(0, "a.jsonl:1"), {1, "a.jsonl:3"}, {2, "b.jsonl:1"}})
    EXPECT_TRUE(data.where(static_cast<size_t>(group)).ends_with(line)) << data.where(static_cast<size_t>(group));
}

TEST_F(ReaderTest, TextIsReadByBytesForPresetsAndWhereAsked) {
  const std::string row = R"({"prompt": "ab", "completion": "c"})";
  for (const char* choice : {"", "bytes"}) {
    tokenizer_ = make_tokenizer(choice, {.directory = *choice != 0 ? folder_.string() : ""});
    EXPECT_EQ(read(Method::kSft, row).group.at(0).sample.at(0).token, (Ids{'a', 'b', 'c', kEos}));
  }
}

TEST_F(ReaderTest, TextForAModelWithoutATokenizerIsRefused) {
  tokenizer_ = make_tokenizer("", {.directory = folder_.string()});
  const std::string said = error(Method::kSft, R"({"prompt": "a", "completion": "b"})");
  EXPECT_TRUE(said.starts_with("1:12: the row is text, and the model directory " + folder_.string())) << said;
  EXPECT_NE(said.find("name their directory in data.tokenizer"), std::string::npos) << said;
  EXPECT_EQ(read(Method::kSft, R"({"input_ids": [1,2], "labels": [1,2]})").group.size(), 1U);
  tokenizer_ = make_tokenizer("/no/such/folder", {.directory = folder_.string()});
  EXPECT_NE(error(Method::kSft, R"({"text": "a"})").find("data.tokenizer /no/such/folder has no tokenizer"),
            std::string::npos);
}

TEST_F(ReaderTest, AFileHasRowsOfOneKind) {
  const std::string text = R"({"prompt": "ab", "completion": "c"})", tokens = R"({"input_ids": [1], "labels": [1]})";
  EXPECT_EQ(
      error(Method::kSft, text + "\n" + tokens),
      "2:1: this row has input_ids + labels, the file's rows before it have prompt + completion: give each kind of "
      "row a file of its own");
  EXPECT_TRUE(error(Method::kSft, text + "\n" + R"({"text": "c"})").starts_with("2:1: this row has text, "));
  DataOptions options;
  options.path = {write("text.jsonl", text), write("tokens.jsonl", tokens)};
  NullLog log;
  EXPECT_EQ(read_dataset(options, Method::kSft, *tokenizer_, log).group.size(), 2U);
}

TEST_F(ReaderTest, RolloutsKeepRewardsLogProbsAndMask) {
  const Dataset data = read(
      Method::kGrpo, R"({"prompt_ids": [5,6], "completions": [)"
                     R"({"ids": [7,8], "reward": 1, "old_logps": [-0.5,-1.5], "ref_logps": [-1,-2], "mask": [0,1]}, )"
                     R"({"ids": [9], "reward": -0.25, "old_logps": [-2.5], "ref_logps": [-3]}]})");
  const Sample& first = data.group.at(0).sample.at(0);
  EXPECT_EQ(first.token, (Ids{5, 6, 7, 8}));
  EXPECT_EQ(first.target, (Ids{kIgnore, kIgnore, kIgnore, 8}));
  EXPECT_EQ(first.old_logp, (std::vector<double>{0, 0, -0.5, -1.5}));
  EXPECT_EQ(first.ref_logp, (std::vector<double>{0, 0, -1, -2}));
  EXPECT_EQ(first.reward, 1.0);
  EXPECT_FALSE(first.advantage.has_value());
  EXPECT_EQ(data.group[0].sample.at(1).reward, -0.25);
  const Dataset given = read(Method::kGrpo, R"({"prompt_ids": [], "completions": [{"ids": [], "advantage": 2e-1}]})");
  EXPECT_EQ(given.group.at(0).sample.at(0).advantage, 0.2);
  EXPECT_TRUE(given.group[0].sample[0].token.empty());
}

TEST_F(ReaderTest, TextRowsGetEndOfSequenceAndCompletionOnlyTargets) {
  const Dataset sft = read(Method::kSft, R"({"prompt": "a", "completion": "\u00e9"})");
  EXPECT_EQ(sft.group.at(0).sample.at(0).token, (Ids{'a', 0xC3, 0xA9, kEos}));
  EXPECT_EQ(sft.group[0].sample[0].target, (Ids{kIgnore, 0xC3, 0xA9, kEos}));
  const Dataset pair = read(Method::kReward, R"({"prompt": "", "chosen": "x", "rejected": "", "margin": 3})");
  EXPECT_EQ(pair.group.at(0).sample.at(0).token, (Ids{'x', kEos}));
  EXPECT_EQ(pair.group[0].sample.at(1).token, (Ids{kEos}));
  EXPECT_EQ(pair.group[0].margin, 3.0);
  const Dataset group = read(Method::kGrpo, R"({"prompt": "p", "completions": ["x", "y"], "rewards": [0, 1.5]})");
  EXPECT_EQ(group.group.at(0).sample.at(1).token, (Ids{'p', 'y', kEos}));
  EXPECT_EQ(group.group[0].sample[1].reward, 1.5);
  const Dataset given = read(Method::kGrpo, R"({"prompt": "p", "completions": ["x"], "advantages": [-1]})");
  EXPECT_EQ(given.group.at(0).sample.at(0).advantage, -1.0);
}

TEST_F(ReaderTest, LongTextLosesItsEndAndLongPromptsAreDropped) {
  DataOptions options;
  options.max_length = 4;
  const Dataset data = read(Method::kDpo,
                            "{\"prompt\": \"abc\", \"chosen\": \"xyz\", \"rejected\": \"\"}\n"
                            "{\"prompt\": \"abcd\", \"chosen\": \"x\", \"rejected\": \"y\"}\n",
                            options);
  EXPECT_EQ(data.group.size(), 1u);
  EXPECT_EQ(data.group.at(0).sample.at(0).token, (Ids{'a', 'b', 'c', 'x'}));
  EXPECT_EQ(data.truncated_samples, 1);
  EXPECT_EQ(data.dropped_rows, 1);
  EXPECT_NE(error(Method::kSft, R"({"prompt": "abcde", "completion": "x"})", options).find("every row was dropped"),
            std::string::npos);
}

TEST_F(ReaderTest, FilesFollowEachOtherAndLineEndsAreForgiven) {
  DataOptions options;
  options.path = {
      write("a.jsonl", "\xEF\xBB\xBF{\"prompt\": \"a\", \"completion\": \"\", \"extra\": [{\"x\": null}]}\r\n"),
      write("b.jsonl", "{\"prompt\": \"b\", \"completion\": \"\"}\n\n \t\r\n")};
  NullLog log;
  const Dataset data = read_dataset(options, Method::kSft, *tokenizer_, log);
  ASSERT_EQ(data.group.size(), 2u);
  EXPECT_EQ(data.group[1].id, 1);
  EXPECT_EQ(data.group[1].sample[0].token, (Ids{'b', kEos}));
}

TEST_F(ReaderTest, ColumnsCanBeRenamed) {
  DataOptions options;
  options.columns = {{"prompt", "question"}, {"completion", "answer"}};
  const Dataset data = read(Method::kSft, R"({"prompt": 7, "question": "q", "answer": "a"})", options);
  EXPECT_EQ(data.group.at(0).sample.at(0).token, (Ids{'q', 'a', kEos}));
  options.columns = {{"promt", "question"}};
  EXPECT_THROW(read(Method::kSft, "{}", options), ConfigError);
  options.columns = {{"prompt", "completion"}};
  EXPECT_THROW(read(Method::kSft, "{}", options), ConfigError);
}

struct BadLine {
  Method method;
  std::string_view line;
  std::string_view start;   ///< "line:byte:"
  std::string_view reason;  ///< part of the text
};

const BadLine kBadLines[] = {
    {Method::kSft, "", "1:1:", "no rows"},
    {Method::kSft, "\n\n", "1:1:", "no rows"},
    {Method::kSft, "[1]", "1:1:", "wrong type"},
    {Method::kSft, "7", "1:1:", "wrong type"},
    {Method::kSft, "\n{\"prompt\": \"\", \"completion\": \"\"}", "1:1:", "blank line"},
    {Method::kSft, R"({"prompt": "a"})", "1:1:", "missing column 'completion'"},
    {Method::kSft, R"({"chosen": []})", "1:1:", "this one has chosen"},
    {Method::kSft, R"({"messages": []})", "1:14:", "the conversation is empty"},
    {Method::kSft, R"({"messages": {}})", "1:14:", "expected a list of messages"},
    {Method::kSft, R"({"messages": ["a"]})", "1:15:", "wrong type: expected a message"},
    {Method::kSft, R"({"messages": [{"content": "a"}]})", "1:15:", "a message has no 'role'"},
    {Method::kSft, R"({"messages": [{"role": 1, "content": "a"}]})", "1:15:", "a message has no 'role'"},
    {Method::kSft, R"({"messages": [{"role": "asistant", "content": "a"}]})", "1:15:", "did you mean 'assistant'?"},
    {Method::kSft, R"({"messages": [{"role": "user", "role": "user"}]})", "1:15:", "\"role\" is given twice"},
    {Method::kSft, R"({"messages": [{"role": "user", "content": tru}]})", "1:46:", "bad JSON inside a message"},
    {Method::kSft, R"({"messages": [{"role": "user", "content": "a"}]})", "1:14:", "bytes have no chat template"},
    {Method::kSft, R"({"prompt": "a", "completion": [{"role": "user"}]})", "1:31:", "write both alike"},
    {Method::kSft, R"({"text": "a", "messages": [{"role": "user"}]})", "1:27:", "keep the columns of one kind"},
    {Method::kSft, R"({"text": "a", "prompt": "a"})", "1:10:", "keep the columns of one kind"},
    {Method::kSft, R"({"messages": [{"role": "user"}], "tools": 1})", "1:43:", "expected a list or null in 'tools'"},
    {Method::kSft, R"({"messages": [{"role": "user"}], "tools": "[1"})", "1:", "bad JSON inside a message"},
    {Method::kSft, R"({"messages": [{"role": "user"}], "chat_template_kwargs": []})", "1:58:", "expected an object"},
    {Method::kDpo, R"({"chosen": [{"role": "user"}], "rejected": [{"role": "system"}]})", "1:12:", "share no first"},
    {Method::kSft, R"({})", "1:1:", "this one has none"},
    {Method::kSft, R"({"prompt": "a", "completion": 7})", "1:31:", "wrong type"},
    {Method::kSft, R"({"prompt": "a", "prompt": "b", "completion": "c"})", "1:27:", "appears twice"},
    {Method::kSft, R"({"prompt": "a", "completion": "b", "input_ids": [1]})", "1:49:", "pre-tokenised"},
    {Method::kSft, R"({"input_ids": [1,2], "labels": [1]})", "1:32:", "labels has 1 entries, input_ids has 2"},
    {Method::kSft, R"({"input_ids": [1,-2], "labels": [1,1]})", "1:18:", "token ids are 0 or more"},
    {Method::kSft, R"({"input_ids": [1,2], "labels": [-100,-1]})", "1:38:", "-100 where nothing"},
    {Method::kSft, R"({"input_ids": [1.5], "labels": [1]})", "1:16:", "wrong type"},
    {Method::kSft, R"({"input_ids": [99999999999], "labels": [1]})", "1:16:", "out of range"},
    {Method::kSft, R"({"input_ids": ["1"], "labels": [1]})", "1:16:", "wrong type"},
    {Method::kSft, R"({"input_ids": [1], "labels": [1]} {})", "1:35:", "more behind"},
    {Method::kSft, R"({"input_ids": [1 2], "labels": [1]})", "1:18:", "bad JSON"},
    {Method::kSft, R"({"prompt": "a" "completion": "b"})", "1:16:", "bad JSON"},
    {Method::kSft, R"({"input_ids": [1,], "labels": [1]})", "1:", ""},
    {Method::kSft, R"({"prompt": "a", "completion": "b", "x": tru})", "1:41:", "expected true or false"},
    {Method::kSft, R"({"prompt": "a", "completion": "b", "x": [nul]})", "1:42:", "expected null"},
    {Method::kSft, R"({"prompt": "a", "completion": "b", "x": 01})", "1:41:", "bad JSON"},
    {Method::kSft, R"({"prompt": "a", "completion": "cut)", "1:35:", "cut"},
    {Method::kSft, R"({"prompt": "a", "completion": "b")", "1:34:", "never closes"},
    {Method::kSft, "{\"prompt\": \"a\", \"completion\": \"\xC3(\"}", "1:32:", "UTF-8"},
    {Method::kSft, "{\"prompt\": \"a\x01\", \"completion\": \"\"}", "1:14:", "control character"},
    {Method::kSft, R"({"prompt": "\ud800", "completion": ""})", "1:12:", "bad JSON"},
    {Method::kDpo, R"({"prompt_ids": [1], "chosen_ids": [2]})", "1:1:", "missing column 'rejected_ids'"},
    {Method::kDpo, R"({"prompt": "", "chosen": "", "rejected": "", "margin": "1"})", "1:56:", "wrong type"},
    {Method::kDpo, R"({"prompt": "", "chosen": "", "rejected": "", "margin": 1e999})", "1:56:", ""},
    {Method::kDpo, R"({"prompt": "", "chosen": "", "rejected": "", "margin": NaN})", "1:56:", ""},
    {Method::kReward, R"({"prompt_ids": [], "chosen_ids": [2], "rejected_ids": []})", "1:1:", "without any token"},
    {Method::kGrpo, R"({"prompt_ids": [1], "completions": []})", "1:36:", "empty"},
    {Method::kGrpo, R"({"prompt_ids": [1], "completions": ["a"]})", "1:36:", "completions are texts"},
    {Method::kGrpo, R"({"prompt": "", "completions": [{"ids": [1], "reward": 1}]})",
     "1:31:", "completions are objects"},
    {Method::kGrpo, R"({"prompt": "", "completions": ["a", {"ids": [1]}], "rewards": [1]})", "1:37:", "mixes"},
    {Method::kGrpo, R"({"prompt": "", "completions": ["a"], "rewards": [1,2]})", "1:49:", "rewards has 2"},
    {Method::kGrpo, R"({"prompt": "", "completions": ["a"]})", "1:31:", "one of the two"},
    {Method::kGrpo, R"({"prompt": "", "completions": ["a"], "rewards": [1], "advantages": [1]})",
     "1:31:", "one of the two"},
    {Method::kGrpo, R"({"prompt_ids": [1], "completions": [{"reward": 1}]})", "1:37:", "has no 'ids'"},
    {Method::kGrpo, R"({"prompt_ids": [1], "completions": [{"ids": [1]}]})", "1:37:", "one of the two"},
    {Method::kGrpo, R"({"prompt_ids": [1], "completions": [{"ids": [1], "reward": 1}, {"ids": [1], "advantage": 1}]})",
     "1:64:", "alike"},
    {Method::kGrpo, R"({"prompt_ids": [1], "completions": [{"ids": [1], "reward": 1, "old_logps": []}]})",
     "1:37:", "old_logps has 0"},
    {Method::kGrpo, R"({"prompt_ids": [1], "completions": [{"ids": [1], "reward": 1, "ref_logps": [1,2]}]})",
     "1:37:", "ref_logps has 2"},
    {Method::kGrpo, R"({"prompt_ids": [1], "completions": [{"ids": [1], "reward": 1, "mask": [1,1]}]})",
     "1:37:", "mask has 2"},
    {Method::kGrpo, R"({"prompt_ids": [1], "completions": [{"ids": [1], "reward": 1, "mask": [2]}]})",
     "1:72:", "use 0 or 1"},
    {Method::kGrpo, R"({"prompt_ids": [1], "completions": [{"ids": [1], "reward": 1, "reward": 1}]})",
     "1:73:", "twice"},
};

TEST_F(ReaderTest, EveryBadLineIsNamedWithItsPlaceAndReason) {
  for (const BadLine& bad : kBadLines) {
    const std::string message = error(bad.method, bad.line);
    EXPECT_TRUE(message.starts_with(bad.start)) << bad.line << "\n  " << message;
    EXPECT_NE(message.find(bad.reason), std::string::npos) << bad.line << "\n  " << message;
  }
}

TEST_F(ReaderTest, PlacesCountLinesAndTheByteOrderMark) {
  const std::string good = R"({"prompt": "a", "completion": "b"})";
  EXPECT_TRUE(error(Method::kSft, good + "\n" + good + "\n{]").starts_with("3:")) << error(Method::kSft, good + "\n{]");
  EXPECT_TRUE(error(Method::kSft, "\xEF\xBB\xBF[]").starts_with("1:4:"));
  EXPECT_NE(error(Method::kSft, std::string("{\"prompt\": \"a\0\"}", 16)).find("control character"), std::string::npos);
  EXPECT_TRUE(error(Method::kSft, std::string("\0\0", 2)).starts_with("1:"));
}

TEST_F(ReaderTest, TokenRowsOverTheLengthAreRefused) {
  DataOptions options;
  options.max_length = 2;
  const std::string message = error(Method::kSft, R"({"input_ids": [1,2,3], "labels": [1,2,3]})", options);
  EXPECT_NE(message.find("data.max_length 2"), std::string::npos) << message;
}

TEST_F(ReaderTest, GivenLogProbsAreForEveryRowOrNone) {
  const std::string with = R"({"prompt_ids": [1], "completions": [{"ids": [1], "reward": 1, "old_logps": [-1]}]})";
  const std::string without = R"({"prompt_ids": [1], "completions": [{"ids": [1], "reward": 1}]})";
  EXPECT_TRUE(error(Method::kGrpo, with + "\n" + without).starts_with("2:1:"));
  EXPECT_TRUE(error(Method::kGrpo, without + "\n" + with).starts_with("2:1:"));
}

TEST_F(ReaderTest, MissingFilesAndEmptyOptionsAreErrors) {
  NullLog log;
  DataOptions options;
  EXPECT_THROW(read_dataset(options, Method::kSft, *tokenizer_, log), ConfigError);
  options.path = {(folder_ / "absent.jsonl").string()};
  EXPECT_THROW(read_dataset(options, Method::kSft, *tokenizer_, log), DataError);
  options.path = {folder_.string()};
  EXPECT_THROW(read_dataset(options, Method::kSft, *tokenizer_, log), DataError);
  options.max_length = 0;
  EXPECT_THROW(read_dataset(options, Method::kSft, *tokenizer_, log), ConfigError);
}

}  // namespace
}  // namespace fpdist::data
