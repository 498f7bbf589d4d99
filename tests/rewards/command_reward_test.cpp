// A program that judges: what it is told, what it may answer, and what becomes of one that does not.
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
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
  /// A program that runs `body` with `line` as each line it reads and `say` to answer with.
  RewardOptions program(const std::string& body, double timeout = 20) {
    const std::string path = scratch_ / text("judge", count_++, ".py");
    test::spill(path,
                "import json, os, pathlib, sys, time\n"
                "once = pathlib.Path(" +
                    quoted(scratch_ / "once") +
                    ")\n"
                    "def say(id, reward): print(json.dumps({'id': id, 'reward': reward}), flush=True)\n"
                    "for text in sys.stdin:\n    line = json.loads(text)\n    " +
                    body + "\n");
    return {.command = {"python3", path}, .timeout_seconds = timeout};
  }
  static std::string quoted(const std::string& path) { return "'" + path + "'"; }
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
  const RewardOptions options = program(
      "assert sorted(line) == ['columns', 'completion', 'completion_ids', 'finish_reason', 'id', 'prompt'], line\n"
      "    assert line['prompt'] == 'why?' and line['columns'] == {'level': 2} and line['finish_reason'] == 'stop'\n"
      "    kept = globals().setdefault('kept', []); kept.append(line)\n"
      "    if len(kept) == 3:\n"
      "        for one in reversed(kept): say(one['id'], None if one['completion'] == 'a' else len(one['completion']) "
      "+ one['completion_ids'][0])\n"
      "        kept.clear()");
  Rewards rewards(options, 10);
  for (int round = 0; round < 2; ++round)  // one process for both: ids go on
    EXPECT_EQ(rewards.judge(texts_).front(), (Values{7, std::nullopt, 9}));
}

TEST_F(CommandReward, OneEntryIsCutAtItsBlanks) {
  RewardOptions options = program("say(line['id'], 1)");
  options.command = {options.command[0] + "  " + options.command[1]};
  EXPECT_EQ(judge(options), Values(3, 1.0));
}

TEST_F(CommandReward, IsStartedOnceMore) {
  const std::string body = "if once.exists(): say(line['id'], 1)\n    elif line['id'] == 1: once.write_text(''); ";
  for (const char* fault : {"os._exit(4)", "time.sleep(60)", "print('junk', flush=True)"}) {
    std::filesystem::remove(scratch_ / "once");
    EXPECT_EQ(judge(program(body + fault + "\n    else: say(line['id'], 5)", 1)), (Values{5, 1, 1})) << fault;
  }
}

TEST_F(CommandReward, ThatFailsTwiceIsNamedWithItsLastWords) {
  expect_words(refusal(program("print('no key', file=sys.stderr); sys.exit(4)")),
               {"reward.command python3 is gone (completion 0 has no reward; it ended with exit code 4", "no key"});
  expect_words(refusal(program("time.sleep(60)", 0.3)), {"not done after reward.timeout_seconds 0.3", "completion 0"});
  expect_words(refusal(program("print('junk', flush=True)")), {"no answer {\"id\", \"reward\"}: junk"});
  expect_words(refusal(program("say(0, 1); say(0, 1)")), {"answered twice: {\"id\": 0"});
  expect_words(refusal(program("say(99, 1)")), {"answered what it was not asked: {\"id\": 99"});
  expect_words(refusal(program("say(line['id'], 'good')")), {"neither a number nor null"});
  expect_words(refusal(program("say('0', 1)")), {"an id that is no number"});
  expect_words(refusal(program("say(line['id'], float('nan'))")), {"no answer", "NaN"});
  expect_words(refusal({.command = {scratch_ / "none"}}), {"none cannot be started"});
  expect_words(refusal({.command = {"  "}}), {"reward.command is blank"});
}

}  // namespace
}  // namespace fpdist::rewards
