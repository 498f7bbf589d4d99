// A round of rollouts in a checkpoint's notes.
#include "src/trainer/samples/round.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "fpdist/core/error.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::trainer {
namespace {

using test::error_of, test::expect_words;

TEST(RolloutRound, ComesBackFromTextToTheLastBit) {
  RolloutRound round{.number = 7, .groups = {{.id = 3, .sample = {}, .margin = 0.1, .weight = {}}}, .metrics = {}};
  round.groups[0].sample.push_back({.token = {1, 2},
                                    .target = {data::kIgnore, 2},
                                    .prompt_length = 1,
                                    .old_logp = {0, -1.0 / 3},
                                    .ref_logp = {},
                                    .reward = 1e-300,
                                    .advantage = {},
                                    .truncated = true});
  round.groups[0].source = 2, round.groups[0].prefix_context = {0.1F, -3};
  round.metrics = {{"reward", 2.0 / 3}, {"rewards/x/mean", NAN}};
  const std::string text = to_json(round);
  const RolloutRound read = parse_round(text, "c");
  EXPECT_EQ(to_json(read), text);
  EXPECT_EQ(read.groups[0].source, 2);
  EXPECT_EQ(read.groups[0].prefix_context, round.groups[0].prefix_context);
  EXPECT_EQ(read.groups[0].sample[0].old_logp[1], -1.0 / 3);
  EXPECT_EQ(read.groups[0].sample[0].reward, 1e-300);
  EXPECT_FALSE(read.groups[0].sample[0].advantage.has_value());
  EXPECT_TRUE(std::isnan(read.metrics.at("rewards/x/mean")));
  EXPECT_EQ(to_json(RolloutRound()), "{}");
  EXPECT_EQ(parse_round("{}", "c").number, -1);
}

/// Written ahead of prefix-RFT, prefixes by source and by context.
TEST(RolloutRound, OfAnOlderCheckpointLacksWhatCameLater) {
  const RolloutRound round = parse_round(
      R"({"round": 4, "metrics": {}, "groups": [{"id": 2, "margin": null, "weight": 0.5, "samples": [{"token": [1, 2],
      "target": [-100, 2], "prompt_length": 1, "old_logp": [], "ref_logp": [], "reward": 1, "advantage": null,
      "truncated": false, "weight": []}]}]})",
      "c");
  ASSERT_EQ(round.groups.size(), 1U);
  EXPECT_EQ(round.groups[0].weight, 0.5);
  EXPECT_EQ(round.groups[0].source, -1);
  EXPECT_TRUE(round.groups[0].prefix_context.empty());
  EXPECT_EQ(round.groups[0].sample.at(0).reward, 1);
  EXPECT_EQ(round.groups[0].sample.at(0).prefix_length, 0);
}

TEST(RolloutRound, IsRefusedWhereItIsNone) {
  for (const char* text : {"[", R"({"round": 1})", R"({"round": 1, "groups": [{}], "metrics": {}})",
                           R"({"round": 1, "groups": [{"id": 0, "samples": [{"token": [1]}]}], "metrics": {}})"})
    expect_words(error_of<ModelFileError>([&] { (void)parse_round(text, "c/state.json"); }),
                 {"c/state.json: its notes on rollouts are none"});
}

}  // namespace
}  // namespace fpdist::trainer
