// What cannot be planned: every refusal names the smallest change that works, and that change does work.

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/core/rng.hpp"
#include "fpdist/plan/step_plan.hpp"
#include "src/plan/costs/costs_file.hpp"
#include "src/plan/pack/pipeline_plan.hpp"
#include "tests/support/random/random_lengths.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::plan {
namespace {

using test::random_lengths;

std::string refusal(const LengthTree& tree, const PlannerOptions& options) {
  return test::refusal<ConfigError>([&] { plan_pipeline(tree, {}, options); });
}

/// The number behind `words` in a refusal.
int64_t number_after(const std::string& text, const std::string& words) {
  const size_t at = text.find(words);
  EXPECT_NE(at, std::string::npos) << text;
  return at == std::string::npos ? 0 : std::stoll(text.substr(at + words.size()));
}

data::Sample sample_of(const std::vector<int32_t>& tokens) {
  data::Sample sample;
  sample.token = sample.target = tokens;
  return sample;
}

TEST(Refusals, AGroupThatFitsNowhereIsNamed) {
  const LengthTree tree =
      parse_lengths("{\"prefix\": 10, \"completions\": [3]}\n{\"prefix\": 70, \"completions\": [30, 40]}", "f");
  PlannerOptions options;
  options.max_tokens = 105;
  EXPECT_EQ(refusal(tree, options),
            "group 1 needs 110 rows in one pack, pack.max_tokens is 105: set pack.max_tokens to at least 110 or drop "
            "the group");
  options.atomic = Atomic::kPairs;
  options.max_tokens = 139;
  EXPECT_EQ(number_after(refusal(tree, options), "set pack.max_tokens to at least "), 140);
  options.max_tokens = 140;
  EXPECT_EQ(refusal(tree, options), "accepted");
}

TEST(Refusals, AWindowTooSmallSaysHowManyRowsWouldDo) {
  int refused = 0;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    Rng rng(seed, 21);
    const LengthTree tree = random_lengths(rng, static_cast<int>(2 + rng.below(8)), 200);
    PlannerOptions options;
    options.replicas = static_cast<int>(1 + rng.below(3));
    options.parallel.pp = static_cast<int>(2 + rng.below(3));
    options.parallel.schedule = rng.below(2) ? Schedule::k1F1B : Schedule::kZeroBubble;
    options.may_slice = rng.below(2) > 0;
    options.max_in_flight = 1;
    const std::string said = refusal(tree, options);
    if (said == "accepted") continue;  // all the samples are empty
    ++refused;
    const int64_t rows = number_after(said, "set it to at least ");
    options.max_in_flight = rows - 1;
    EXPECT_EQ(number_after(refusal(tree, options), "set it to at least "), rows);
    options.max_in_flight = rows;
    const PipelinePlan plan = plan_pipeline(tree, {}, options);
    EXPECT_EQ(most_rows_in_flight(options), rows);
    for (const PlannedReplica& replica : plan.replica) {
      const PipelineShape shape = shape_of(options, replica);
      EXPECT_LE(simulate(shape, pipeline_ops(shape), unit_costs({}, replica), plan.layers).peak_rows, rows);
    }
  }
  EXPECT_GT(refused, 50);
}

TEST(Refusals, WholePacksOfAnOddNumberOfRowsAreNotTooManyInFlight) {
  for (uint64_t seed = 0; seed < 80; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    Rng rng(seed, 22);
    const LengthTree tree = random_lengths(rng, static_cast<int>(2 + rng.below(8)), 9);
    PlannerOptions options;
    options.parallel.pp = 2, options.parallel.virtual_stages = 2;
    options.parallel.schedule = Schedule::kInterleaved;
    options.may_slice = false, options.may_fill_up = true, options.effort = 0;
    for (options.max_tokens = 21; options.max_tokens < 45; options.max_tokens += 2) {
      const std::string said = refusal(tree, options);
      EXPECT_TRUE(said == "accepted" || said.find("rows in one pack") != std::string::npos) << said;
    }
  }
}

TEST(Refusals, InterleavingWithoutAMultipleOfTheStagesSaysHowManyStagesWouldDo) {
  const LengthTree tree = parse_lengths(
      "{\"prefix\": 10, \"completions\": [3]}\n{\"prefix\": 70, \"completions\": [30, 40]}\n"
      "{\"prefix\": 9, \"completions\": [5]}\n{\"prefix\": 5, \"completions\": [9]}",
      "f");
  PlannerOptions options;
  options.parallel.pp = 8;
  options.parallel.schedule = Schedule::kInterleaved;
  options.parallel.virtual_stages = 2;
  options.may_slice = false;
  const std::string said = refusal(tree, options);
  EXPECT_EQ(said,
            "no packs of at most 8192 rows make a multiple of 8 units, which interleaving needs: set parallel.pp to at "
            "most 5, or let packs be sliced");
  for (options.parallel.pp = 6; options.parallel.pp < 8; ++options.parallel.pp)
    EXPECT_EQ(number_after(refusal(tree, options), "set parallel.pp to at most "), 5);
  options.parallel.pp = 5;
  EXPECT_EQ(refusal(tree, options), "accepted");
  options.parallel.pp = 8;
  options.may_slice = true;
  EXPECT_EQ(refusal(tree, options), "accepted");

  const LengthTree one = parse_lengths("{\"prefix\": 10, \"completions\": [3]}", "f");
  options.may_slice = false;
  EXPECT_NE(refusal(one, options).find("use the 1f1b or zb-h1 schedule"), std::string::npos);
  options.may_fill_up = true;
  const PipelinePlan plan = plan_pipeline(one, {}, options);
  EXPECT_EQ(plan.replica[0].pack.size(), 8u) << "seven of them empty";
}

TEST(Refusals, LayersThatDoNotFitTheModelAreNoReasonToPlanOtherwise) {
  data::Group group;
  group.sample.push_back(sample_of({1, 2, 3}));
  ParallelOptions parallel;
  parallel.dp = 1, parallel.pp = 2;
  for (const std::vector<int64_t>& layers : {std::vector<int64_t>{32}, {16, 17}, {0, 32}}) {
    parallel.layers = layers;
    const std::vector<data::Group> groups{group};
    test::expect_words(test::error_of<ConfigError>([&] { make_step_plan(groups, Atomic::kSamples, parallel, {}, {}); }),
                       {"parallel.layers"});
  }
}

TEST(Refusals, CostsOfAnotherModelSayWhoseTheyAre) {
  EXPECT_NO_THROW(check_costs_fit({}, 32, "costs.yaml"));
  test::expect_words(test::error_of<ConfigError>([] { check_costs_fit({}, 28, "costs.yaml"); }),
                     {"costs.yaml", "32", "28"});
}

TEST(Refusals, GroupsWhoseSamplesInterleaveStayTwoGroups) {
  // Two pairs of one prompt: in DFS order a sample of one lies between the samples of the other.
  std::vector<data::Group> groups(2);
  const auto sample = [](std::vector<int32_t> tail) {
    std::vector<int32_t> token(40, 7);
    for (int i = 0; i < 30; ++i) token.push_back(tail[0]);
    for (int i = 0; i < 10; ++i) token.push_back(tail[1]);
    return sample_of(token);
  };
  groups[0].sample = {sample({1, 1}), sample({2, 2})};
  groups[1].sample = {sample({1, 3}), sample({2, 4})};
  ParallelOptions parallel;
  parallel.dp = 1, parallel.pp = 2;
  PackOptions options;
  options.max_tokens = 125;  // a pair is 120 rows, both together 140
  const StepPlan plan = make_step_plan(groups, Atomic::kLines, parallel, {}, options);
  ASSERT_EQ(plan.replica[0].size(), 2u);
  for (const PackPlan& pack : plan.replica[0]) {
    ASSERT_EQ(pack.member.size(), 2u);
    EXPECT_EQ(pack.member[0].group, pack.member[1].group);
  }
}

}  // namespace
}  // namespace fpdist::plan
