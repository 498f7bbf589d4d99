// Where rows are from: the column `source`, where somebody asks for it.

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "src/data/rows/dump_rows.hpp"
#include "src/data/source/cached_dataset.hpp"
#include "src/data/virtual_tokens.hpp"
#include "tests/data/rows/reader_fixture.hpp"
#include "tests/support/words/error_of.hpp"
#include "tests/support/words/heard_log.hpp"

namespace fpdist::data {
namespace {

using Ids = std::vector<int32_t>;
using RowSources = test::ReaderTest;
using test::expect_words;

constexpr const char* kRows =
    "{\"prompt\": \"a\", \"completion\": \"b\", \"source\": \"code\"}\n"
    "{\"prompt\": \"c\", \"completion\": \"d\", \"source\": \"web\"}\n";

DataOptions asking(std::string other = "") {
  DataOptions options;
  options.sources = {"web", "code"}, options.other_source = std::move(other);
  return options;
}

TEST_F(RowSources, AreNumbersOfThoseThatAreAskedFor) {
  const Dataset data = read(Method::kSft, kRows, asking());
  EXPECT_EQ(data.group.at(0).source, 1);
  EXPECT_EQ(data.group.at(1).source, 0);
  EXPECT_EQ(read(Method::kSft, kRows).group.at(0).source, -1) << "nobody asks";
  DataOptions renamed = asking();
  renamed.columns = {{"source", "domain"}};
  EXPECT_EQ(
      read(Method::kDpo, R"({"prompt_ids": [1], "chosen_ids": [2], "rejected_ids": [3], "domain": "code"})", renamed)
          .group.at(0)
          .source,
      1);
  renamed.sources = {"7"};
  EXPECT_EQ(read(Method::kSft, R"({"input_ids": [1], "labels": [1], "domain": 7})", renamed).group.at(0).source, 0);
}

TEST_F(RowSources, OfOtherRowsAreTheDefaultOrAnError) {
  for (const char* row :
       {R"({"text": "a"})", R"({"text": "a", "source": null})", R"({"text": "a", "source": "maths"})"}) {
    EXPECT_EQ(read(Method::kSft, row, asking("code")).group.at(0).source, 1) << row;
    expect_words(error(Method::kSft, row, asking()), {"1:", "prefixes of web, code", "adapter.prefix_default"});
  }
  expect_words(error(Method::kSft, R"({"text": "a", "source": "maths"})", asking()), {"1:25: source is 'maths'"});
  expect_words(error(Method::kSft, R"({"text": "a"})", asking()), {"1:1: the row has no 'source'"});
  expect_words(error(Method::kSft, R"({"text": "a", "source": [1]})", asking()), {"a text or an integer in 'source'"});
  DataOptions skipping = asking();
  skipping.on_error = OnError::kSkip;
  const Dataset data = read(Method::kSft, std::string(kRows) + R"({"prompt": "e", "completion": "f"})", skipping);
  EXPECT_EQ(data.size(), 2);
  EXPECT_EQ(data.skipped.size(), 1U);
}

TEST_F(RowSources, AreNoColumnToWarnOfWhereNobodyAsks) {
  DataOptions options;
  options.path = {write("rows.jsonl", kRows)};
  test::HeardLog log;
  read_dataset(options, Method::kSft, *tokenizer_, log);
  EXPECT_EQ(log.said().find("warning"), std::string::npos) << log.said();
}

TEST_F(RowSources, ComeBackFromCachesAndDumps) {
  DataOptions options = asking();
  options.path = {write("rows.jsonl", kRows)};
  NullLog log;
  const CacheUse use{.folder = folder_.string(), .may_write = true};
  read_cached(options, Method::kSft, *tokenizer_, use, log);
  const Dataset cached = read_cached(options, Method::kSft, *tokenizer_, use, log);
  EXPECT_EQ(cached.get(0).source, 1);
  DataOptions others = options;
  others.sources = {"code", "web"};
  EXPECT_EQ(read_cached(others, Method::kSft, *tokenizer_, use, log).get(0).source, 0) << "another data set";
  const std::string dumped = (folder_ / "dumped.jsonl").string();
  dump_rows(cached.group, Method::kSft, dumped, options.sources);
  EXPECT_EQ(read(Method::kSft, test::slurp(dumped), options).group.at(0).source, 1);
}

TEST_F(RowSources, OfRowsThatBecomeOneGroupAreOne) {
  DataOptions options = asking();
  options.group_by = GroupBy::kPrompt;
  const auto row = [](const char* source) {
    return std::string(R"({"prompt_ids": [1], "completion_ids": [2], "reward": 1, "source": ")") + source + "\"}\n";
  };
  EXPECT_EQ(read(Method::kGrpo, row("code") + row("code"), options).group.at(0).source, 1);
  expect_words(test::refusal<DataError>([&] { read(Method::kGrpo, row("web") + row("code"), options); }),
               {"data.group_by", "different sources"});
}

/// What the rows' prefixes are made of, where somebody asks for it: the column `context`.
class RowContexts : public test::ReaderTest {
 protected:
  static DataOptions asking(int64_t numbers = 2) {
    DataOptions options;
    options.context_dim = numbers;
    return options;
  }
};

TEST_F(RowContexts, AreListsOfNumbersOfOneSize) {
  const Dataset data = read(Method::kSft,
                            "{\"text\": \"a\", \"context\": [0.5, -1]}\n"
                            "{\"text\": \"b\", \"context\": [3e-2, 2]}\n",
                            asking());
  EXPECT_EQ(data.group.at(0).prefix_context, (std::vector<float>{0.5F, -1}));
  EXPECT_EQ(data.group.at(1).prefix_context, (std::vector<float>{3e-2F, 2}));
  DataOptions renamed = asking(1);
  renamed.columns = {{"context", "user"}};
  EXPECT_EQ(read(Method::kDpo, R"({"prompt_ids": [1], "chosen_ids": [2], "rejected_ids": [3], "user": [7]})", renamed)
                .group.at(0)
                .prefix_context,
            std::vector<float>{7});
  const auto fault = [&](const std::string& row) { return error(Method::kSft, row, asking()); };
  expect_words(fault(R"({"text": "a"})"),
               {"1:1: the row has no 'context'", "a list of 2 numbers", "adapter.context_dim"});
  expect_words(fault(R"({"text": "a", "context": [1]})"),
               {"1:26: context holds 1 numbers", "adapter.context_dim is 2"});
  expect_words(fault(R"({"text": "a", "context": [1, 1e39]})"), {"1:26: context holds 1e+39", "too large for float32"});
  expect_words(fault(R"({"text": "a", "context": [1, NaN]})"), {"1:"});
  expect_words(fault(R"({"text": "a", "context": "me"})"), {"1:26:", "a list"});
  DataOptions skipping = asking();
  skipping.on_error = OnError::kSkip;
  const Dataset left =
      read(Method::kSft, "{\"text\": \"a\", \"context\": [1, 2]}\n{\"text\": \"b\", \"context\": [1]}\n", skipping);
  EXPECT_EQ(left.size(), 1);
  EXPECT_EQ(left.skipped.size(), 1U);
}

/// A usual name of texts.
TEST_F(RowContexts, AreOfNoConcernWhereNobodyAsks) {
  DataOptions options;
  options.columns = {{"prompt", "context + question"}, {"completion", "answer"}};
  const Dataset data = read(Method::kSft, R"({"context": "a", "question": "b", "answer": "c"})", options);
  EXPECT_TRUE(data.group.at(0).prefix_context.empty());
  EXPECT_EQ(data.group.at(0).sample[0].prompt_length, 3);
  options = {};
  options.path = {write("rows.jsonl", R"({"text": "a", "context": "a text"})")};
  test::HeardLog log;
  read_dataset(options, Method::kSft, *tokenizer_, log);
  EXPECT_EQ(log.said().find("warning"), std::string::npos) << log.said();
}

TEST_F(RowContexts, ComeBackFromCachesDumpsAndRowsOfOneGroup) {
  const auto row = [](const char* context) {
    return std::string(R"({"prompt_ids": [1], "completion_ids": [2], "reward": 1, "context": )") + context + "}\n";
  };
  DataOptions options = asking();
  options.group_by = GroupBy::kPrompt;
  options.path = {write("rows.jsonl", row("[0.1, 2]") + row("[0.1, 2]"))};
  NullLog log;
  const CacheUse use{.folder = folder_.string(), .may_write = true};
  read_cached(options, Method::kGrpo, *tokenizer_, use, log);
  const Dataset cached = read_cached(options, Method::kGrpo, *tokenizer_, use, log);
  EXPECT_EQ(cached.get(0).prefix_context, (std::vector<float>{0.1F, 2}));
  DataOptions others = options;
  others.context_dim = 0;
  EXPECT_TRUE(read_cached(others, Method::kGrpo, *tokenizer_, use, log).get(0).prefix_context.empty());
  const std::string dumped = (folder_ / "dumped.jsonl").string();
  dump_rows(cached.group, Method::kGrpo, dumped);
  options.group_by = GroupBy::kRow;
  EXPECT_EQ(read(Method::kGrpo, test::slurp(dumped), options).group.at(0).prefix_context,
            (std::vector<float>{0.1F, 2}));
  options.group_by = GroupBy::kPrompt;
  expect_words(test::refusal<DataError>([&] { read(Method::kGrpo, row("[0, 2]") + row("[0, 1]"), options); }),
               {"data.group_by", "different contexts"});
}

/// Two sequences that begin alike begin with other tokens behind other prefixes.
TEST(VirtualTokens, AreThoseOfTheGroupsSource) {
  Sample sample;
  sample.token = {5, 6}, sample.target = {5, 6}, sample.weight = {1, 2};
  std::vector<Group> groups(2);
  for (Group& group : groups) group.sample = {sample}, group.source = 1;
  groups[1].source = 0, groups[1].id = 1;
  VirtualTokens tokens{.first_id = 100, .count = 2, .prefixes = 2};
  std::vector<Group> all = behind(tokens, groups, 0);
  EXPECT_EQ(all[0].sample[0].token, (Ids{102, 103, 5, 6}));
  EXPECT_EQ(all[1].sample[0].token, (Ids{100, 101, 5, 6}));
  EXPECT_EQ(all[0].sample[0].target, (Ids{kIgnore, kIgnore, kIgnore, 6}));
  EXPECT_EQ(all[0].sample[0].weight, (std::vector<double>{0, 0, 1, 2}));
  EXPECT_EQ(all[0].sample[0].prompt_length, 2);
  tokens.keeps_first_target = true;
  EXPECT_EQ(behind(tokens, groups, 0)[0].sample[0].target, (Ids{kIgnore, kIgnore, 5, 6}));
  tokens.prefixes = 0;
  EXPECT_EQ(behind(tokens, groups, 0)[0].sample[0].token, (Ids{100, 101, 5, 6}));
}

TEST(VirtualTokens, AreThoseOfTheGroupsContext) {
  Sample sample;
  sample.token = sample.target = {5};
  std::vector<Group> groups(3);
  for (Group& group : groups) group.sample = {sample}, group.prefix_context = {1, 2};
  groups[1].prefix_context = {0, 2}, groups[1].id = 7;
  const VirtualTokens tokens{.first_id = 100, .count = 2, .context_dim = 2};
  const std::vector<Group> all = behind(tokens, groups, 0);
  EXPECT_EQ(all[0].sample[0].token, (Ids{100, 101, 5}));
  EXPECT_EQ(all[1].sample[0].token, (Ids{102, 103, 5}));
  EXPECT_EQ(all[2].sample[0].token, all[0].sample[0].token);
  const auto fault = [&] { return test::refusal<DataError>([&] { behind(tokens, groups, 0); }); };
  groups[1].prefix_context = {0};
  EXPECT_EQ(fault(), "group 7: its context has 1 numbers, adapter.context_dim is 2: give every group as many");
  groups[1].prefix_context = {0, std::numeric_limits<float>::infinity()};
  EXPECT_EQ(fault(), "group 7: its context holds inf: give it finite numbers");
}

TEST(VirtualTokens, AreLeftOutForPartOfAStepsGroups) {
  Sample sample;
  sample.token = sample.target = {5};
  std::vector<Group> groups(400);
  for (size_t g = 0; g < groups.size(); ++g) groups[g].id = static_cast<int64_t>(g), groups[g].sample = {sample};
  VirtualTokens tokens{.first_id = 100, .count = 1, .drop = 0.25, .seed = 3};
  const auto left_out = [&](int64_t step) {
    std::vector<bool> bare;
    for (const Group& group : behind(tokens, groups, step)) bare.push_back(group.sample[0].token.size() == 1);
    return bare;
  };
  const std::vector<bool> first = left_out(1);
  EXPECT_NEAR(static_cast<double>(std::count(first.begin(), first.end(), true)), 100, 30);
  EXPECT_EQ(left_out(1), first);
  EXPECT_NE(left_out(2), first);
  EXPECT_EQ(left_out(0), std::vector<bool>(groups.size(), false));
  tokens.seed = 4;
  EXPECT_NE(left_out(1), first);
}

}  // namespace
}  // namespace fpdist::data
