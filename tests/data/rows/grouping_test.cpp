// data.group_by: rows that become one group.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/data/rows/reader_fixture.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::data {
namespace {

using Ids = std::vector<int32_t>;

class Grouped : public test::ReaderTest {
 protected:
  static DataOptions by(GroupBy group_by) {
    DataOptions options;
    options.group_by = group_by;
    return options;
  }
};

TEST_F(Grouped, FlatRolloutsOfAPromptAreOneGroup) {
  const std::string rows = R"({"prompt": "p", "completion": "a", "reward": 1, "uid": 7})"
                           "\n"
                           R"({"prompt": "p", "completion": "c", "reward": 0.5, "uid": "7", "truncated": true})"
                           "\n"
                           R"({"prompt": "q", "completion": "b", "reward": 0, "uid": "x"})";
  for (const GroupBy how : {GroupBy::kPrompt, GroupBy::kUid}) {
    const Dataset data = read(Method::kGrpo, rows, by(how));
    ASSERT_EQ(data.group.size(), 2U);
    EXPECT_EQ(data.group[0].sample.at(0).token, (Ids{'p', 'a', 256}));
    EXPECT_EQ(data.group[0].sample.at(1).token, (Ids{'p', 'c'}));
    EXPECT_EQ(data.group[0].sample[1].reward, 0.5);
    EXPECT_EQ(data.group[1].sample.at(0).token, (Ids{'q', 'b', 256}));
    EXPECT_EQ(data.group[1].id, 1);
    EXPECT_TRUE(data.where(0).ends_with("rows.jsonl:1"));
    EXPECT_TRUE(data.where(1).ends_with("rows.jsonl:3"));
    EXPECT_TRUE(data.unit.empty());
  }
}

TEST_F(Grouped, FlatTokenRowsKeepTheirLogProbs) {
  const Dataset data =
      read(Method::kGrpo,
           R"({"prompt_ids": [5], "completion_ids": [6, 7], "reward": 1, "old_logps": [-1, -2], "mask": [1, 0]})"
           "\n"
           R"({"prompt_ids": [5], "completion_ids": [8], "reward": 0, "old_logps": [-3], "finish_reason": "length"})",
           by(GroupBy::kPrompt));
  ASSERT_EQ(data.group.size(), 1U);
  const Sample &first = data.group[0].sample.at(0), &second = data.group[0].sample.at(1);
  EXPECT_EQ(first.old_logp, (std::vector<double>{0, -1, -2}));
  EXPECT_EQ(first.target, (Ids{kIgnore, 6, kIgnore}));
  EXPECT_EQ(second.token, (Ids{5, 8}));
  EXPECT_TRUE(second.truncated);
}

TEST_F(Grouped, SupervisedRowsOfAPromptAreOneGroup) {
  const Dataset text = read(Method::kSft,
                            "{\"prompt\": \"p\", \"completion\": \"a\"}\n{\"prompt\": \"p\", \"completion\": \"b\"}\n"
                            "{\"prompt\": \"q\", \"completion\": \"b\"}",
                            by(GroupBy::kPrompt));
  ASSERT_EQ(text.group.size(), 2U);
  EXPECT_EQ(text.group[0].sample.size(), 2U);
  const Dataset tokens =
      read(Method::kSft,
           "{\"input_ids\": [1,2,3], \"labels\": [-100,-100,3]}\n{\"input_ids\": [1,2,4], \"labels\": [-100,-100,4]}",
           by(GroupBy::kPrompt));
  EXPECT_EQ(tokens.group.size(), 1U);
}

TEST_F(Grouped, PairsStayPairsAndAreUnits) {
  const std::string pair = R"({"prompt": "p", "chosen": "a", "rejected": "b"})",
                    other = R"({"prompt": "q", "chosen": "a", "rejected": "b"})";
  const Dataset data = read(Method::kDpo, pair + "\n" + other + "\n" + pair, by(GroupBy::kPrompt));
  EXPECT_EQ(data.group.size(), 3U);
  EXPECT_EQ(data.unit, (std::vector<int64_t>{0, 1, 0}));
}

TEST_F(Grouped, WhatCannotBeGroupedSaysWhatToDo) {
  test::expect_words(error(Method::kGrpo, R"({"prompt": "p", "completion": "a", "reward": 1})"),
                     {"1:31: the row has one completion of its prompt", "data.group_by: prompt"});
  test::expect_words(error(Method::kGrpo, R"({"prompt": "p", "completion": "a", "reward": 1})", by(GroupBy::kUid)),
                     {"1:1: data.group_by is uid, and the row has no 'uid'"});
  test::expect_words(error(Method::kGrpo, R"({"prompt": "p", "completion": "a"})", by(GroupBy::kPrompt)),
                     {"a row needs 'reward' or 'advantage', one of the two"});
  test::expect_words(error(Method::kGrpo, R"({"prompt_ids": [1], "completion_ids": [2]})", by(GroupBy::kPrompt)),
                     {"a completion needs 'reward' or 'advantage', one of the two"});
  test::expect_words(error(Method::kSft, R"({"text": "a"})", by(GroupBy::kPrompt)),
                     {"1:1: rows are grouped by their prompts, and this one has none"});
  test::expect_words(
      error(Method::kGrpo, R"({"prompt": "p", "completion": "a", "reward": 1, "uid": 1.5})", by(GroupBy::kUid)),
      {"expected a text or an integer in 'uid'"});
  DataOptions options = by(GroupBy::kPrompt);
  EXPECT_THROW(read(Method::kGrpo,
                    "{\"prompt\": \"p\", \"completion\": \"a\", \"reward\": 1}\n{\"prompt\": \"p\", \"completion\": "
                    "\"b\", \"advantage\": 1}",
                    options),
               DataError);
}

}  // namespace
}  // namespace fpdist::data
