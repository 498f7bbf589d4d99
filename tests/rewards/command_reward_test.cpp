// A program that judges: what it is told, what it may answer, and what becomes of one that does not.
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/rewards/rewards.hpp"
#include "tests/support/files/scratch.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::rewards {
namespace {

using test::error_of, test::expect_words;

class CommandReward : public ::testing::Test {
 protected:
  CommandReward() {
    for (int i = 0; i < 3; ++i)
      texts_.push_back(
          {.row = &row_, .text = std::string(static_cast<size_t>(i), 'a'), .token = {7, i}, .finish_reason = "stop"});
  }
  /// A program in `language` that is this text.
  RewardOptions program(const std::string& language, const std::string& lines, double timeout = 20) {
    const std::string path = scratch_ / text("judge", count_++);
    test::spill(path, lines);
    return {.command = {language, path}, .timeout_seconds = timeout};
  }
  /// One in sh that runs `body` for each line that it reads: `id` is its number, `say ID REWARD` answers.
  RewardOptions shell(const std::string& body, double timeout = 20) {
    return program("sh",
                   "say() { echo '{\"id\": '$1', \"reward\": '$2'}'; }\nonce='" + scratch_ / "once" +
                       "'\nwhile read -r line; do\n  id=${line#*:}; id=${id%%,*}\n  " + body + "\ndone\n",
                   timeout);
  }
  Values judge(const RewardOptions& options) { return Rewards(options, 10).judge(texts_).front(); }
  std::string refusal(const RewardOptions& options) {
    return error_of<DataError>([&] { judge(options); });
  }

  const test::Scratch scratch_;
  int count_ = 0;
  const data::PromptRow row_{.token = {1}, .prompt = R"("why?")", .columns = R"({"level": 2})"};
  std::vector<JudgedText> texts_;
};

TEST_F(CommandReward, IsToldAllAndAnswersInAnyOrder) {
  Rewards rewards(program("python3", R"(
import json, sys
kept = []
for text in sys.stdin:
    line = json.loads(text)
    assert sorted(line) == ['columns', 'completion', 'completion_ids', 'finish_reason', 'id', 'prompt'], line
    assert line['prompt'] == 'why?' and line['columns'] == {'level': 2} and line['finish_reason'] == 'stop', line
    kept.append(line)
    if len(kept) < 3:
        continue
    for one in reversed(kept):
        reward = None if one['completion'] == 'a' else len(one['completion']) + one['completion_ids'][0]
        print(json.dumps({'id': one['id'], 'reward': reward}), flush=True)
    kept.clear()
)"),
                  10);
  for (int round = 0; round < 2; ++round)  // one process for both: ids go on
    EXPECT_EQ(rewards.judge(texts_).front(), (Values{7, std::nullopt, 9}));
}

/// What waits for a program is let go at once, and the next round has one again.
TEST_F(CommandReward, ARoundThatIsGivenUpEndsItsProgram) {
  Rewards rewards(shell("[ -e $once ] || { touch $once; sleep 60; }; say $id 1", 60), 10);
  const auto start = std::chrono::steady_clock::now();
  std::string said;
  std::thread waits([&] { said = error_of<DataError>([&] { (void)rewards.judge(texts_); }); });
  while (!std::filesystem::exists(scratch_ / "once")) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  rewards.give_up();
  waits.join();
  expect_words(said, {"the round was given up"});
  expect_words(error_of<DataError>([&] { (void)rewards.judge(texts_); }), {"the round was given up"});
  EXPECT_TRUE(rewards.end_round().empty());
  EXPECT_EQ(rewards.judge(texts_).front(), Values(3, 1.0));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
}

TEST_F(CommandReward, OneEntryIsCutAtItsBlanks) {
  RewardOptions options = shell("say $id 1");
  options.command = {options.command[0] + "  " + options.command[1]};
  EXPECT_EQ(judge(options), Values(3, 1.0));
}

TEST_F(CommandReward, SaysNumbersBesides) {
  Rewards rewards(program("python3", R"(
import json, sys
for text in sys.stdin:
    id = json.loads(text)['id']
    print(json.dumps({'id': id, 'reward': 1, 'metrics': {'depth': id, **({'odd': 5} if id % 2 else {})}}), flush=True)
)"),
                  10);
  EXPECT_TRUE(rewards.end_round().empty());
  rewards.judge(texts_);
  const SaidByName said = rewards.end_round();
  ASSERT_EQ(said.size(), 2U);
  EXPECT_EQ(said.at("depth").sum, 3);  // 0, 1, 2
  EXPECT_EQ(said.at("depth").count, 3);
  EXPECT_EQ(said.at("odd").sum, 5);
  EXPECT_EQ(said.at("odd").count, 1);
  EXPECT_TRUE(rewards.end_round().empty()) << "once";
}

TEST_F(CommandReward, IsStartedOnceMore) {
  for (const char* fault : {"exit 4", "sleep 60", "echo junk"}) {
    std::filesystem::remove(scratch_ / "once");
    const std::string faulty =
        text("if [ -e $once ]; then say $id 1; elif [ $id = 1 ]; then touch $once; ", fault, "; else say $id 5; fi");
    EXPECT_EQ(judge(shell(faulty, 2)), (Values{5, 1, 1})) << fault;
  }
}

/// A round of several calls: together they have the time, and one more start.
TEST_F(CommandReward, TimeAndTheOneRestartAreARounds) {
  const std::string counts = "n=$(cat $once 2>/dev/null); n=$((${n:-0} + 1)); echo $n > $once; ";
  Rewards slow(shell("sleep 0.1; say $id $$", 0.5), 10);  // who answers
  const Values first = slow.judge(texts_).front();        // 0.3 s of 0.5
  slow.end_round();
  EXPECT_EQ(slow.judge(texts_).front(), first) << "the next round has all the time";
  EXPECT_NE(slow.judge(texts_).front().back(), first.back()) << "its time ends on the way";
  Rewards dies(shell(counts + "[ $n != 2 ] && [ $n != 4 ] || exit 4; say $id $n"), 10);
  EXPECT_EQ(dies.judge({texts_.data(), 1}).front(), Values(1, 1.0));
  EXPECT_EQ(dies.judge({texts_.data(), 1}).front(), Values(1, 3.0)) << "started once more";
  expect_words(error_of<DataError>([&] { dies.judge({texts_.data(), 1}); }), {"ended with exit code 4"});
}

TEST_F(CommandReward, ThatFailsTwiceIsNamedWithItsLastWords) {
  expect_words(refusal(shell("echo no key >&2; exit 4")),
               {"reward.command sh is gone (completion 0 has no reward; it ended with exit code 4", "no key"});
  expect_words(refusal(shell("sleep 60", 0.3)), {"not done after reward.timeout_seconds 0.3", "completion 0"});
  expect_words(refusal(shell("echo junk")), {"no answer {\"id\", \"reward\"}: junk"});
  expect_words(refusal(shell("say 0 1; say 0 1")), {"answered twice: {\"id\": 0"});
  expect_words(refusal(shell("say 99 1")), {"answered what it was not asked: {\"id\": 99"});
  expect_words(refusal(shell("say $id '\"good\"'")), {"neither a number nor null"});
  expect_words(refusal(shell("say '\"0\"' 1")), {"an id that is no number"});
  expect_words(refusal(shell("say $id NaN")), {"no answer", "NaN"});
  expect_words(refusal(shell("echo '{\"id\": '$id', \"reward\": 1, \"metrics\": {\"a\": \"b\"}}'")),
               {"metrics that are no object of numbers: {\"id\": 0"});
  expect_words(refusal({.command = {scratch_ / "none"}}), {"none cannot be started"});
  expect_words(refusal({.command = {"  "}}), {"reward.command is blank"});
}

}  // namespace
}  // namespace fpdist::rewards
