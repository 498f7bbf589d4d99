// What rows say of how much they are learned: weights, labels of KTO, and data.train_on_all; and which entry of
// data.path they come from.

#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "fpdist/data/loader.hpp"
#include "src/data/rows/dump_rows.hpp"
#include "src/data/rows/messages.hpp"
#include "tests/data/rows/reader_fixture.hpp"
#include "tests/support/words/error_of.hpp"
#include "tests/support/words/heard_log.hpp"

namespace fpdist::data {
namespace {

using Ids = std::vector<int32_t>;
using Weights = std::vector<double>;
using RowWeights = test::ReaderTest;
constexpr int32_t kEos = 256;

TEST_F(RowWeights, MultiplyTheLossOfARowsTokens) {
  const Dataset data = read(Method::kSft,
                            "{\"prompt\": \"ab\", \"completion\": \"c\", \"weight\": 0.5}\n"
                            "{\"prompt\": \"ab\", \"completion\": \"c\", \"weight\": 1}\n"
                            "{\"prompt\": \"ab\", \"completion\": \"c\"}\n");
  EXPECT_EQ(data.group.at(0).sample.at(0).weight, (Weights{1, 1, 0.5, 0.5}));
  EXPECT_TRUE(data.group.at(1).sample.at(0).weight.empty());
  EXPECT_TRUE(data.group.at(2).sample.at(0).weight.empty());
}

TEST_F(RowWeights, OfTokenRowsMayBeATokens) {
  const Sample sample =
      read(Method::kSft, R"({"input_ids": [1,2,3], "labels": [-100,2,3], "weight": [9,2,0]})").group.at(0).sample.at(0);
  EXPECT_EQ(sample.target, (Ids{kIgnore, 2, kIgnore}));
  EXPECT_EQ(sample.weight, (Weights{1, 2, 1}));
  const Group rollouts =
      read(Method::kGrpo, R"({"prompt_ids": [1], "weight": 2, "completions": [)"
                          R"({"ids": [5,6], "reward": 1, "weight": [1,3]}, {"ids": [7], "reward": 0}]})")
          .group.at(0);
  EXPECT_EQ(rollouts.sample.at(0).weight, (Weights{1, 2, 6}));
  EXPECT_EQ(rollouts.sample.at(1).weight, (Weights{1, 2}));
  EXPECT_EQ(error(Method::kSft, R"({"input_ids": [1,2], "labels": [1,2], "weight": [1]})"),
            "1:49: weight has 1 entries, input_ids has 2");
}

TEST_F(RowWeights, OfPairsAreThePairs) {
  EXPECT_EQ(read(Method::kDpo, R"({"prompt": "a", "chosen": "b", "rejected": "c", "weight": 0.25})").group.at(0).weight,
            0.25);
  EXPECT_EQ(read(Method::kReward, R"({"prompt_ids": [1], "chosen_ids": [2], "rejected_ids": [3], "weight": 2})")
                .group.at(0)
                .weight,
            2.0);
  EXPECT_FALSE(
      read(Method::kDpo, R"({"prompt": "a", "chosen": "b", "rejected": "c", "weight": 1})").group.at(0).weight);
  test::expect_words(error(Method::kDpo, R"({"prompt": "a", "chosen": "b", "rejected": "c", "weight": [1, 2]})"),
                     {"1:59: 'weight' is a list", "give this row one number"});
}

TEST_F(RowWeights, ARowOfWeightNoneIsDroppedAndCounted) {
  const std::string sft = R"({"prompt": "a", "completion": "b"})";
  const std::vector<std::pair<Method, std::string>> rows{
      {Method::kSft, R"({"prompt": "a", "completion": "b", "weight": 0})"
                     "\n" +
                         sft},
      {Method::kSft, R"({"input_ids": [1], "labels": [1], "weight": 0})"
                     "\n"
                     R"({"input_ids": [1], "labels": [1]})"},
      {Method::kDpo, R"({"chosen": "b", "rejected": "c", "weight": 0})"
                     "\n"
                     R"({"chosen": "b", "rejected": "c"})"}};
  for (const auto& [method, bytes] : rows) {
    const Dataset data = read(method, bytes);
    EXPECT_EQ(data.group.size(), 1U);
    EXPECT_EQ(data.dropped_rows, 1);
  }
  const Dataset rollouts =
      read(Method::kGrpo, R"({"prompt": "p", "completions": ["x", "y"], "rewards": [0, 1], "weight": 0})");
  EXPECT_EQ(rollouts.group.at(0).sample.at(1).target, (Ids{kIgnore, kIgnore, kIgnore})) << "its rewards still count";
}

TEST_F(RowWeights, ThatAreNoneAreRefused) {
  const auto said = [&](const std::string& weight) {
    return error(Method::kSft, R"({"prompt": "a", "completion": "b", "weight": )" + weight + "}");
  };
  EXPECT_EQ(said("-1"), "1:46: weight holds -1: weights are 0 or more");
  test::expect_words(said("\"1\""), {"1:46: wrong type: expected a weight"});
  test::expect_words(said("NaN"), {"1:46: a number that is not finite"});
  test::expect_words(said("1e999"), {"1:46: a number that is not finite"});
  test::expect_words(said("-Infinity"), {"a number that is not finite"});
}

TEST_F(RowWeights, OfMessagesAreReadUnderTheirUsualNames) {
  EXPECT_EQ(read_message(R"({"role": "assistant", "content": "", "weight": 0})").weight, 0.0);
  EXPECT_EQ(read_message(R"({"from": "gpt", "value": "", "train": true})").weight, 1.0);
  EXPECT_EQ(read_message(R"({"role": "user", "content": "", "training": false})").weight, 0.0);
  EXPECT_FALSE(read_message(R"({"role": "user", "content": "", "weight": null})").weight);
  const auto row = [](const std::string& field) {
    return R"({"messages": [{"role": "user", "content": "a", )" + field +
           R"(}, {"role": "assistant", "content": "b"}]})";
  };
  test::expect_words(error(Method::kSft, row(R"("weight": "1")")),
                     {"1:15: 'weight' of a message is \"1\"", "0 or more"});
  test::expect_words(error(Method::kSft, row(R"("weight": 1, "train": true)")),
                     {"'train' is a message's second weight"});
  test::expect_words(error(Method::kSft, row(R"("weight": 1)")), {"the role 'user' has the weight 1"});
  const std::string pair = R"({"chosen": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", )"
                           R"("weight": 0}], "rejected": [{"role": "user", "content": "a"}, )"
                           R"({"role": "assistant", "content": "c"}]})";
  test::expect_words(error(Method::kDpo, pair), {"a message has a weight, and method dpo compares whole answers"});
}

TEST_F(RowWeights, ARowForKtoIsNoRowForSft) {
  for (const char* verdict : {R"("label": true)", R"("label": false)", R"("label": 0)", R"("kto_tag": false)"}) {
    const std::string said = error(Method::kSft, R"({"prompt": "a", "completion": "b", )" + std::string(verdict) + "}");
    test::expect_words(said, {"whether its answer is wanted", "learn unwanted answers", "data.columns: {label: none}"});
  }
  const std::string chat = R"({"messages": [{"role": "user", "content": "a"}], "label": false})";
  test::expect_words(error(Method::kSft, chat), {"1:59: the row says in 'label' whether"});
  DataOptions options;
  options.columns = {{"label", "none"}};
  EXPECT_EQ(read(Method::kSft, R"({"prompt": "a", "completion": "b", "label": true})", options).group.size(), 1U);
  for (const char* other : {R"("label": 7)", R"("label": "yes")", R"("label": [true])"})
    EXPECT_EQ(read(Method::kSft, R"({"prompt": "a", "completion": "b", )" + std::string(other) + "}").group.size(), 1U);
  EXPECT_EQ(read(Method::kSft, R"({"text": "a", "label": 1})").group.size(), 1U);
}

TEST_F(RowWeights, VerdictsOfKtoAreRewards) {
  const Dataset text = read(Method::kKto, R"({"prompt": "a", "completion": "bc", "label": true})"
                                          "\n"
                                          R"({"prompt": "a", "completion": "d", "label": 0})");
  ASSERT_EQ(text.group.size(), 2U);
  EXPECT_EQ(text.group[0].sample.at(0).reward, 1);
  EXPECT_EQ(text.group[1].sample.at(0).reward, 0);
  EXPECT_EQ(text.group[0].sample[0].prompt_length, 1);
  DataOptions options;
  options.group_by = GroupBy::kPrompt;  // rows stay what they are, as pairs do
  const std::string tokens = R"({"prompt_ids": [1, 2], "completion_ids": [3, 4], "kto_tag": false, "truncated": true})";
  const Dataset ids = read(Method::kKto, tokens + "\n" + tokens, options);
  ASSERT_EQ(ids.group.size(), 2U);
  const Sample& sample = ids.group[0].sample.at(0);
  EXPECT_EQ(sample.target, (std::vector<int32_t>{kIgnore, kIgnore, 3, 4}));
  EXPECT_EQ(sample.reward, 0);
  EXPECT_TRUE(sample.truncated);
  dump_rows(ids.group, Method::kKto, (folder_ / "dumped.jsonl").string());
  options.path = {(folder_ / "dumped.jsonl").string()};
  NullLog log;
  const Dataset again = read_dataset(options, Method::kKto, *tokenizer_, log);
  EXPECT_EQ(again.group.at(1).sample.at(0).token, sample.token);
  EXPECT_EQ(again.group.at(1).sample.at(0).reward, 0);
}

TEST_F(RowWeights, RowsForAnotherMethodOfPreferencesSayWhich) {
  test::expect_words(error(Method::kDpo, R"({"prompt": "a", "completion": "b", "label": true})"),
                     {"1:1: missing column 'chosen'", "method dpo compares two answers", "method: kto"});
  test::expect_words(error(Method::kOrpo, R"({"prompt_ids": [1], "completion_ids": [2], "kto_tag": true})"),
                     {"missing column", "method orpo compares two answers", "method: kto"});
  test::expect_words(error(Method::kKto, R"({"prompt": "a", "chosen": "b", "rejected": "c"})"),
                     {"missing column 'completion'", "method kto reads one answer a row", "method: dpo"});
  test::expect_words(error(Method::kKto, R"({"prompt": "a", "completion": "b", "label": "yes"})"),
                     {"1:45: 'label' says whether the answer is wanted: true or false, 1 or 0"});
}

TEST_F(RowWeights, TrainOnAllLearnsEveryToken) {
  DataOptions options;
  options.train_on_all = true, options.assistant_only_loss = true;
  const auto targets = [&](const std::string& row) {
    return read(Method::kSft, row, options).group.at(0).sample.at(0).target;
  };
  EXPECT_EQ(targets(R"({"prompt": "a", "completion": "b"})"), (Ids{'a', 'b', kEos}));
  EXPECT_EQ(targets(R"({"input_ids": [1,2,3], "labels": [-100,-100,3]})"), (Ids{1, 2, 3}));
  EXPECT_EQ(
      read(Method::kSft, R"({"prompt": "a", "completion": "b", "weight": 3})", options).group.at(0).sample.at(0).weight,
      (Weights{3, 3, 3}));
}

class Entries : public test::ReaderTest {
 protected:
  static std::string rows(char first, int count) {
    std::string all;
    for (int i = 0; i < count; ++i) all += "{\"text\": \"" + std::string(1, first) + std::to_string(i) + "\"}\n";
    return all;
  }
};

TEST_F(Entries, OfDataPathAreMixedByTheirNames) {
  std::filesystem::create_directory(folder_ / "many");
  write("many/1.jsonl", rows('b', 3)), write("many/2.jsonl", rows('c', 5));
  DataOptions options;
  options.path = {write("a.jsonl", rows('a', 4)), (folder_ / "many").string(), (folder_ / "a.jsonl").string()};
  options.mixture = {{options.path[0], "3"}, {options.path[1], "0.25"}};
  NullLog log;
  const Dataset data = read_dataset(options, Method::kSft, *tokenizer_, log);
  EXPECT_EQ(data.entry, (Ids{0, 1, 1, 2}));
  EXPECT_TRUE(data.where(15).ends_with("a.jsonl:4")) << data.where(15);
  EXPECT_EQ(data.place[15].file, 3) << "the file again is another";
  for (const Batching batching : {Batching::kShuffle, Batching::kPrefix}) {
    options.batching = batching;
    const Loader loader = make_loader(data, options, 5, 0);
    std::map<char, int> count;
    for (int64_t step = 0; step < loader.steps_per_epoch(); ++step)
      for (const Group& group : pick_groups(data, loader.step(step)))
        ++count[static_cast<char>(group.sample[0].token[0])];
    EXPECT_EQ(count['a'], 3 * 4 + 3 * 4) << "both entries are called so";
    EXPECT_EQ(count['b'] + count['c'], 2);
  }
}

}  // namespace
}  // namespace fpdist::data
