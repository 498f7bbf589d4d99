// Rewards of a round: given while others are decoded, and the same as when all are there.
#include "src/trainer/samples/judge.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/config/read_data.hpp"
#include "tests/support/files/scratch.hpp"
#include "tests/support/words/error_of.hpp"
#include "tests/trainer/tiny_config.hpp"

namespace fpdist::trainer {
namespace {

const std::vector<std::vector<int32_t>> kPrompts{{3, 1, 4, 1, 5}, {3, 1, 4, 2}, {9}, {3, 1, 4, 2, 7}, {8, 8}, {6}};

class JudgedRollouts : public ::testing::Test {
 protected:
  JudgedRollouts() {
    for (const auto& tokens : kPrompts) rows_.push_back({.token = tokens, .prompt = "\"say\"", .columns = "{}"});
    const std::string path = scratch_ / "judge.py";
    test::spill(path,
                "import json, sys\n"
                "for text in sys.stdin:\n"
                "    line = json.loads(text)\n"
                "    print(json.dumps({'id': line['id'], 'reward': sum(line['completion_ids']) / 7,\n"
                "                      'metrics': {'tokens': len(line['completion_ids'])}}), flush=True)\n");
    options_ = {
        .functions = {"regex", "length"}, .command = {"python3", path}, .pattern = "[a-z]", .soft_punish_cache = 5};
    config_ = test::tiny_config(Method::kGrpo);
    // One prompt after the other; they end apart.
    sampling_.num_generations = 3, sampling_.max_num_seqs = 3, sampling_.max_completion_length = 12;
    sampling_.stop_token_ids = {1, 2, 3, 4, 5, 6, 7, 8, 9}, sampling_.seed = 4;
  }
  PromptRows rows() const {
    PromptRows rows;
    for (const data::PromptRow& row : rows_) rows.push_back(&row);
    return rows;
  }
  std::unique_ptr<Judge> make_judge(Trainer& trainer, rewards::RewardFunction own) const {
    rewards::Rewards rewards(options_, sampling_.max_completion_length);
    rewards.add({"own", std::move(own), 0.5});
    auto judge = std::make_unique<Judge>(std::move(rewards), config::tokenizer_of(config_, trainer.settled().model),
                                         trainer.world());
    judge->set_stops(sampling_);
    return judge;
  }

  const test::Scratch scratch_;
  std::vector<data::PromptRow> rows_;
  rewards::RewardOptions options_;
  config::Config config_;
  generate::SamplingOptions sampling_;
};

rewards::Values lengths(std::span<const rewards::JudgedText> texts) {
  rewards::Values values;
  for (const rewards::JudgedText& one : texts)
    values.push_back(one.token.size() % 5 == 0 ? std::nullopt : std::optional<double>(one.token.size() / 3.0));
  return values;
}

void expect_same(const Judged& got, const Judged& wanted) {
  EXPECT_EQ(got.value, wanted.value);
  EXPECT_EQ(got.total, wanted.total);
}

TEST_F(JudgedRollouts, AreTheSameOnAnyRanksAndWhenAllIsThere) {
  Judged at_the_end;
  comm::run_threads(1, [&](comm::World& world) {
    NullLog log;
    Trainer trainer(world, config_, log);
    const auto judge = make_judge(trainer, lengths);
    std::vector<data::Group> groups = trainer.roll_out(kPrompts, sampling_);
    judge->begin(rows());
    for (size_t p = 0; p < groups.size(); ++p) judge->take(p, groups[p]);
    at_the_end = judge->finish(groups);
    ASSERT_EQ(at_the_end.value.size(), 4U);
    EXPECT_EQ(at_the_end.own.size(), 18U);
    for (size_t i = 0; i < 18; ++i) EXPECT_EQ(groups[i / 3].sample[i % 3].reward, at_the_end.total[i]);
  });
  for (const MeshShape& shape : std::vector<MeshShape>{{.dp = 1}, {.dp = 2}, {.dp = 1, .pp = 2}, {.dp = 1, .tp = 2}}) {
    SCOPED_TRACE(to_string(shape));
    config::Config config = config_;
    static_cast<MeshShape&>(config.parallel) = shape;
    std::mutex mutex;
    size_t judged_here = 0;
    comm::run_threads(shape.size(), [&](comm::World& world) {
      NullLog log;
      Trainer trainer(world, config, log);
      const auto judge = make_judge(trainer, lengths);
      judge->begin(rows());
      std::vector<data::Group> groups = trainer.roll_out(kPrompts, sampling_, 0, nullptr, judge->taking());
      const Judged judged = judge->finish(groups);
      const std::lock_guard lock(mutex);
      expect_same(judged, at_the_end);
      EXPECT_EQ(judged.own.size(), 18U / static_cast<size_t>(shape.size())) << "ranks of a replica judge in turn";
      judged_here += judged.own.size();
    });
    EXPECT_EQ(judged_here, 18U);
  }
}

TEST_F(JudgedRollouts, AreJudgedWhileOthersDecode) {
  comm::run_threads(1, [&](comm::World& world) {
    NullLog log;
    Trainer trainer(world, config_, log);
    std::promise<void> all_decoded;
    std::future<void> until_then = all_decoded.get_future();
    std::vector<size_t> calls;
    bool was_beside = false;
    // The first one's judge is at it until the last one has been decoded.
    const auto judge = make_judge(trainer, [&](std::span<const rewards::JudgedText> texts) {
      if (calls.empty()) was_beside = until_then.wait_for(std::chrono::seconds(20)) == std::future_status::ready;
      calls.push_back(texts.size());
      return lengths(texts);
    });
    size_t decoded = 0;
    const auto taking = [&](size_t prompt, const data::Group& group) {
      judge->take(prompt, group);
      if (++decoded == kPrompts.size()) all_decoded.set_value();
    };
    judge->begin(rows());
    std::vector<data::Group> groups = trainer.roll_out(kPrompts, sampling_, 0, nullptr, taking);
    const Judged judged = judge->finish(groups);
    EXPECT_TRUE(was_beside);
    ASSERT_GE(calls.size(), 2U);
    EXPECT_EQ(calls.front() % 3, 0U);
    EXPECT_LT(calls.front(), 18U);
    EXPECT_EQ(judged.own.size(), 18U);
  });
}

TEST_F(JudgedRollouts, ARoundThatEndsInAnErrorLeavesNothingBehind) {
  comm::run_threads(1, [&](comm::World& world) {
    NullLog log;
    Trainer trainer(world, config_, log);
    bool fails = true;
    const auto judge = make_judge(trainer, [&](std::span<const rewards::JudgedText> texts) {
      if (fails) throw DataError("the judge is out");
      return lengths(texts);
    });
    std::vector<data::Group> groups = trainer.roll_out(kPrompts, sampling_);
    judge->begin(rows());
    judge->take(0, groups[0]);  // decoding ends here
    judge->begin(rows());
    for (size_t p = 0; p < groups.size(); ++p) judge->take(p, groups[p]);
    test::expect_words(test::error_of<DataError>([&] { judge->finish(groups); }), {"the judge is out"});
    fails = false;
    judge->begin(rows());
    for (size_t p = 0; p < groups.size(); ++p) judge->take(p, groups[p]);
    EXPECT_EQ(judge->finish(groups).own.size(), 18U);
    judge->begin(rows());  // what is judged of a round that is left is not the next one's
    judge->take(0, groups[0]);
    judge->begin(rows());
    for (size_t p = 0; p < groups.size(); ++p) judge->take(p, groups[p]);
    EXPECT_EQ(judge->finish(groups).said.at("tokens").count, 18);
    judge->begin({});
    EXPECT_TRUE(judge->finish({}).total.empty());
  });
}

/// What is thrown on one rank, whatever it is, is an error on all.
TEST_F(JudgedRollouts, WhatIsNoExceptionEndsARoundOnAllRanks) {
  std::mutex mutex;
  std::vector<std::string> said;
  config_.parallel.dp = 2;
  comm::run_threads(2, [&](comm::World& world) {
    NullLog log;
    Trainer trainer(world, config_, log);
    const auto judge = make_judge(trainer, [&](std::span<const rewards::JudgedText> texts) {
      if (world.rank() == 1) throw 7;
      return lengths(texts);
    });
    judge->begin(rows());
    std::vector<data::Group> groups = trainer.roll_out(kPrompts, sampling_, 0, nullptr, judge->taking());
    const std::string words = test::error_of<DataError>([&] { judge->finish(groups); });
    const std::lock_guard lock(mutex);
    said.push_back(words);
  });
  EXPECT_EQ(said, std::vector<std::string>(2, "a reward has thrown what is no std::exception (on rank 1)"));
}

/// A program that hangs does not hold up an error of the decoding beside it.
TEST_F(JudgedRollouts, AnErrorBesideAProgramThatHangsWaitsForNothing) {
  const std::string path = scratch_ / "hangs.py";
  test::spill(path, "import time\ntime.sleep(100)\n");
  options_.command = {"python3", path}, options_.timeout_seconds = 100;
  comm::run_threads(1, [&](comm::World& world) {
    NullLog log;
    Trainer trainer(world, config_, log);
    const std::vector<data::Group> groups = trainer.roll_out(kPrompts, sampling_);
    const auto start = std::chrono::steady_clock::now();
    {
      const auto judge = make_judge(trainer, lengths);
      judge->begin(rows());
      judge->take(0, groups[0]);
    }
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
  });
}

}  // namespace
}  // namespace fpdist::trainer
