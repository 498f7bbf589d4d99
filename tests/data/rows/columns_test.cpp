// Columns that say more of a row than its tokens: how completions ended, what the reference says of them; and those
// that nobody reads.

#include <gtest/gtest.h>

#include <numeric>
#include <string>
#include <vector>

#include "tests/data/rows/reader_fixture.hpp"
#include "tests/support/words/error_of.hpp"
#include "tests/support/words/heard_log.hpp"

namespace fpdist::data {
namespace {

using Ids = std::vector<int32_t>;
constexpr int32_t kEos = 256;

class Columns : public test::ReaderTest {
 protected:
  std::vector<Sample> samples(Method method, std::string_view row, DataOptions options = {}) const {
    return read(method, row, std::move(options)).group.at(0).sample;
  }
  static DataOptions up_to(int64_t max_length) {
    DataOptions options;
    options.max_length = max_length;
    return options;
  }
  std::string said(Method method, std::string_view rows) const {
    test::HeardLog log;
    DataOptions options;
    options.path = {write("rows.jsonl", rows)};
    read_dataset(options, method, *tokenizer_, log);
    return log.said();
  }
};

TEST_F(Columns, ATextThatTheSamplerCutHasNoEndOfSequence) {
  const auto rollouts = samples(Method::kGrpo, R"({"prompt":"a","completions":["xy","z"],"rewards":[0,1],)"
                                               R"("truncated":[true,false]})");
  EXPECT_EQ(rollouts.at(0).token, (Ids{'a', 'x', 'y'}));
  EXPECT_EQ(rollouts.at(1).token, (Ids{'a', 'z', kEos}));
  EXPECT_TRUE(rollouts[0].truncated);
  EXPECT_FALSE(rollouts[1].truncated);
  for (const Method method : {Method::kDpo, Method::kReward}) {
    const auto pair = samples(method, R"({"prompt":"a","chosen":"x","rejected":"y","truncated":[false,true]})");
    EXPECT_EQ(pair.at(0).token, (Ids{'a', 'x', kEos}));
    EXPECT_EQ(pair.at(1).token, (Ids{'a', 'y'}));
    EXPECT_TRUE(pair[1].truncated);
  }
  EXPECT_EQ(samples(Method::kSft, R"({"prompt":"a","completion":"x","truncated":true})").at(0).token, (Ids{'a', 'x'}));
  EXPECT_EQ(samples(Method::kSft, R"({"prompt":"a","completion":"x","truncated":null})").at(0).token,
            (Ids{'a', 'x', kEos}));
}

TEST_F(Columns, ASamplersWordForTheEndIsUnderstood) {
  const auto is_cut = [&](const std::string& reason) {
    return samples(Method::kSft, R"({"prompt":"a","completion":"x","finish_reason":")" + reason + R"("})")
        .at(0)
        .truncated;
  };
  for (const char* cut : {"length", "abort", "max_tokens"}) EXPECT_TRUE(is_cut(cut)) << cut;
  for (const char* whole : {"stop", "eos_token", "tool_calls"}) EXPECT_FALSE(is_cut(whole)) << whole;
  const auto rollouts = samples(Method::kGrpo, R"({"prompt":"a","completions":["x","z"],"rewards":[0,1],)"
                                               R"("finish_reason":["length","stop"]})");
  EXPECT_TRUE(rollouts.at(0).truncated);
  EXPECT_FALSE(rollouts.at(1).truncated);
  test::expect_words(error(Method::kSft, R"({"prompt":"a","completion":"x","finish_reason":"lenght"})"),
                     {"1:48: finish_reason is 'lenght': use one of stop, length"});
}

TEST_F(Columns, TokenRowsSayItToo) {
  const auto rollouts = samples(
      Method::kGrpo, R"({"prompt_ids":[5],"completions":[{"ids":[7,8],"reward":1,"truncated":true},)"
                     R"({"ids":[9],"reward":0,"finish_reason":"stop"},{"ids":[9],"reward":0,"finish_reason":"length"},)"
                     R"({"ids":[9],"reward":0}]})");
  EXPECT_EQ(rollouts.at(0).token, (Ids{5, 7, 8})) << "as they are";
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(rollouts[i].truncated, i % 2 == 0) << i;
  EXPECT_TRUE(samples(Method::kSft, R"({"input_ids":[1,2],"labels":[1,2],"truncated":[true]})").at(0).truncated);
  const auto pair = samples(Method::kDpo, R"({"prompt_ids":[5],"chosen_ids":[6],"rejected_ids":[7],)"
                                          R"("finish_reason":["length","stop"]})");
  EXPECT_TRUE(pair.at(0).truncated);
  EXPECT_FALSE(pair.at(1).truncated);
}

TEST_F(Columns, RolloutsSayHowManyOfTheirTokensADemonstrationGave) {
  const auto rollouts = samples(Method::kGrpo, R"({"prompt_ids":[5],"completions":[{"ids":[7,8],"reward":1},)"
                                               R"({"ids":[7,9,3],"reward":0,"prefix_length":2}]})");
  EXPECT_EQ(rollouts.at(0).prefix_length, 0);
  EXPECT_EQ(rollouts.at(1).prefix_length, 2);
  EXPECT_EQ(rollouts.at(1).target, (Ids{kIgnore, 7, 9, 3})) << "they are learned";
  DataOptions by_prompt;
  by_prompt.group_by = GroupBy::kPrompt;
  const std::string flat = R"({"prompt_ids":[5],"completion_ids":[7,9],"reward":1,"prefix_length":)";
  EXPECT_EQ(samples(Method::kGrpo, flat + "1}", by_prompt).at(0).prefix_length, 1);
  test::expect_words(error(Method::kGrpo, flat + "3}", by_prompt),
                     {"prefix_length is 3, the completion has 2 tokens: it counts those"});
  test::expect_words(error(Method::kGrpo, flat + "-1}", by_prompt), {"prefix_length is -1: it is 0 or more"});
  test::expect_words(error(Method::kGrpo, flat + "0.5}", by_prompt), {"wrong type: expected a number of tokens"});
  test::expect_words(error(Method::kGrpo, R"({"prompt":"a","completions":["x"],"rewards":[0],"prefix_length":1})"),
                     {"'prefix_length' is of pre-tokenised rows, 'prompt' of text rows"});
}

TEST_F(Columns, WhatMaxLengthCutsIsCut) {
  const auto pair = samples(Method::kDpo, R"({"prompt":"ab","chosen":"xyz","rejected":"u"})", up_to(4));
  EXPECT_EQ(pair.at(0).token, (Ids{'a', 'b', 'x', 'y'}));
  EXPECT_TRUE(pair[0].truncated);
  EXPECT_FALSE(pair.at(1).truncated);
}

TEST_F(Columns, CutsThatDoNotFitTheRowAreRefused) {
  EXPECT_EQ(error(Method::kDpo, R"({"prompt":"a","chosen":"x","rejected":"y","truncated":true})"),
            "1:55: truncated has 1 entries, the row's list of completions has 2");
  test::expect_words(error(Method::kSft, R"({"prompt":"a","completion":"x","truncated":false,"finish_reason":"stop"})"),
                     {"1:66: ", "keep 'truncated' or 'finish_reason'"});
  test::expect_words(error(Method::kGrpo, R"({"prompt_ids":[5],"completions":[{"ids":[7],"reward":1,"truncated":true,)"
                                          R"("finish_reason":"length"}]})"),
                     {"says twice how it ended"});
  test::expect_words(error(Method::kSft, R"({"prompt":"a","completion":"x","truncated":"yes"})"),
                     {"1:44: wrong type: expected true or false in 'truncated'"});
  test::expect_words(
      error(Method::kGrpo, R"({"prompt_ids":[5],"completions":[{"ids":[7],"reward":1}],"truncated":[true]})"),
      {"'truncated' and 'prompt_ids' are of different kinds of rows"});
}

double sum(const std::vector<double>& values) { return std::accumulate(values.begin(), values.end(), 0.0); }

TEST_F(Columns, AnAnswersReferenceLogProbIsItsSum) {
  const std::string columns = R"("ref_chosen_logps":-6,"ref_rejected_logps":-1.5})";
  for (const std::string& row : {R"({"prompt":"ab","chosen":"xy","rejected":"",)" + columns,
                                 R"({"prompt":"","chosen":"xy","rejected":"yz",)" + columns,
                                 R"({"prompt_ids":[1,2],"chosen_ids":[3,4,5],"rejected_ids":[6],)" + columns}) {
    const auto pair = samples(Method::kDpo, row);
    for (const Sample& sample : pair) {
      ASSERT_EQ(sample.ref_logp.size(), sample.token.size());
      EXPECT_EQ(sample.ref_logp[0], 0.0) << "nothing predicts a first token";
      for (int32_t t = 0; t < sample.prompt_length; ++t) EXPECT_EQ(sample.ref_logp[static_cast<size_t>(t)], 0.0);
    }
    EXPECT_DOUBLE_EQ(sum(pair.at(0).ref_logp), -6);
    EXPECT_DOUBLE_EQ(sum(pair.at(1).ref_logp), -1.5);
  }
}

TEST_F(Columns, OrANumberForEachOfItsTokens) {
  const auto pair = samples(Method::kDpo, R"({"prompt":"ab","chosen":"x","rejected":"y",)"
                                          R"("ref_chosen_logps":[-1,-2],"ref_rejected_logps":[-3,-4]})");
  EXPECT_EQ(pair.at(0).ref_logp, (std::vector<double>{0, 0, -1, -2}));
  EXPECT_EQ(pair.at(1).ref_logp, (std::vector<double>{0, 0, -3, -4}));
}

TEST_F(Columns, ReferenceLogProbsThatDoNotFitAreRefused) {
  const std::string row = R"({"prompt":"a","chosen":"xyz","rejected":"y",)";
  test::expect_words(error(Method::kDpo, row + R"("ref_chosen_logps":-1})"),
                     {"give 'ref_chosen_logps' and 'ref_rejected_logps', or neither"});
  test::expect_words(error(Method::kDpo, row + R"("ref_chosen_logps":[-1],"ref_rejected_logps":-1})"),
                     {"ref_chosen_logps has 1 entries, the answer (with the end of sequence) has 4"});
  test::expect_words(error(Method::kDpo, row + R"("ref_chosen_logps":-1,"ref_rejected_logps":-1})", up_to(3)),
                     {"whole answers", "data.max_length 3"});
  test::expect_words(error(Method::kDpo, R"({"prompt_ids":[1],"chosen_ids":[],"rejected_ids":[2],)"
                                         R"("ref_chosen_logps":-1,"ref_rejected_logps":-1})"),
                     {"of which no token is predicted"});
  test::expect_words(error(Method::kDpo, row +
                                             R"("ref_chosen_logps":-1,"ref_rejected_logps":-1})"
                                             "\n" +
                                             row + "\"margin\":1}"),
                     {"2:1: this row lacks ref_logps"});
}

TEST_F(Columns, WhatNobodyReadsIsNamed) {
  const std::string pair = R"({"prompt":"a","chosen":"x","rejected":"y","id":7,"source":{"a":1},)"
                           R"("ref_chosen_logps":-1,"ref_rejected_logps":-1})";
  const std::string reward = said(Method::kReward, pair);
  test::expect_words(reward, {"warning columns of the data that method reward does not read: ref_chosen_logps, "
                              "ref_rejected_logps: what they say has no effect",
                              "info columns of the data that are not read: id, source"});
  const std::string dpo = said(Method::kDpo, pair);
  EXPECT_EQ(dpo, "info columns of the data that are not read: id, source\n");
  test::expect_words(
      said(Method::kGrpo, R"({"prompt_ids":[5],"completions":[{"ids":[7],"reward":1,"score":2,"margin":1}]})"),
      {"method grpo does not read: completions.margin:", "are not read: completions.score\n"});
}

TEST_F(Columns, AColumnThatIsNearlyAnOptionalOneIsRefused) {
  struct Near {
    Method method;
    std::string row, column, meant;
  };
  const std::string pair = R"({"prompt":"a","chosen":"x","rejected":"y",)",
                    rollout = R"({"prompt_ids":[5],"completions":[{"ids":[7],"reward":1,)";
  const std::vector<Near> all{
      {Method::kDpo, pair + R"("margn":1})", "margn", "margin"},
      {Method::kReward, pair + R"("weigth":1})", "weigth", "weight"},
      {Method::kDpo, pair + R"("reference_chosen_logps":-1})", "reference_chosen_logps", "ref_chosen_logps"},
      {Method::kSft, R"({"text":"a","truncate":true})", "truncate", "truncated"},
      {Method::kGrpo, rollout + R"("logprobs":[-1]}]})", "completions.logprobs", "old_logps"},
      {Method::kGrpo, rollout + R"("prefix_len":1}]})", "completions.prefix_len", "prefix_length"},
      {Method::kGrpo, rollout + R"("old_logp":[-1]}]})", "completions.old_logp", "old_logps"},
      {Method::kGrpo, rollout + R"("response_mask":[1]}]})", "completions.response_mask", "mask"}};
  for (const Near& near : all) {
    const std::string leaf = near.column.substr(near.column.find('.') + 1);
    test::expect_words(error(near.method, near.row),
                       {"1:1: column '" + near.column + "' is not read; if '" + near.meant + "' is meant",
                        "data.columns: {" + near.meant + ": " + leaf + "}", "{" + near.meant + ": none}"});
    DataOptions otherwise;
    otherwise.columns = {{near.meant, "none"}};
    EXPECT_EQ(error(near.method, near.row, otherwise), "accepted") << near.column;
  }
  for (const std::string& row : {pair + R"("prompt_id":7,"task":1,"market":2})", pair + R"("margin":1,"margins":2})"})
    EXPECT_EQ(error(Method::kDpo, row), "accepted") << row;
  EXPECT_EQ(error(Method::kGrpo, rollout + R"("old_logps":[-1],"logprobs":[-2]}]})"), "accepted") << "both are there";
}

TEST_F(Columns, RowsThatTeachNothingAreCountedOnce) {
  const auto lines = [](const std::string& a, const std::string& b, const std::string& c) {
    return a + "\n" + b + "\n" + c + "\n";
  };
  const std::string good = R"({"prompt":"a","chosen":"x","rejected":"y"})",
                    same = R"({"prompt":"a","chosen":"x","rejected":"x"})",
                    empty = R"({"prompt":"a","chosen":"x","rejected":""})";
  const std::string pairs = said(Method::kDpo, lines(good, same, same)),
                    text = said(Method::kDpo, lines(good, good, empty));
  test::expect_words(pairs, {"warning chosen and rejected are the same tokens in 2 rows, ", "rows.jsonl:2 the first"});
  test::expect_words(text, {"warning an answer is empty in 1 rows, ", "rows.jsonl:3 the first"});
  EXPECT_EQ(pairs.find("empty"), std::string::npos);
  EXPECT_EQ(text.find("same tokens"), std::string::npos);
  test::expect_words(said(Method::kDpo, R"({"prompt_ids":[1],"chosen_ids":[],"rejected_ids":[2]})"),
                     {"an answer is empty in 1 rows"});
  test::expect_words(said(Method::kSft, R"({"input_ids":[1,2],"labels":[-100,-100]})"),
                     {"an answer is empty in 1 rows"});
  const std::string even = R"({"prompt":"a","completions":["b","c"],"rewards":[2,2]})",
                    uneven = R"({"prompt":"a","completions":["b","c"],"rewards":[2,1]})";
  test::expect_words(said(Method::kGrpo, lines(even, even, even)),
                     {"equal in each of the 3 groups: every advantage is 0"});
  EXPECT_EQ(said(Method::kGrpo, lines(even, uneven, even)), "");
}

}  // namespace
}  // namespace fpdist::data
