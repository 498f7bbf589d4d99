#include "src/trainer/step/check_groups.hpp"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/trainer/trainer.hpp"
#include "tests/support/random/random_groups.hpp"
#include "tests/support/words/error_of.hpp"
#include "tests/trainer/tiny_config.hpp"

namespace fpdist::trainer {
namespace {

using Groups = std::vector<data::Group>;

/// What a step of these groups, changed, says.
std::string refusal(Method method, const std::function<void(data::Sample&)>& change) {
  at::set_num_threads(1);
  Groups groups = test::random_groups(method, 3, 5);
  change(groups[1].sample.back());
  std::string said;
  comm::run_threads(1, [&](comm::World& world) {
    NullLog log;
    Trainer trainer(world, test::tiny_config(method), log);
    said = test::refusal<DataError>([&] { trainer.step(groups); });
  });
  return said;
}

TEST(CheckGroups, WhatIsNoSampleIsNamedBeforeTheStep) {
  const auto expect = [](const std::function<void(data::Sample&)>& change, const std::vector<std::string>& words) {
    const std::string said = refusal(Method::kGrpo, change);
    test::expect_words(said, {"group 1 of the step, sample "});
    test::expect_words(said, words);
  };
  expect([](data::Sample& sample) { sample.target.pop_back(); }, {"target has ", " entries, token has "});
  expect([](data::Sample& sample) { sample.old_logp.push_back(0); }, {"old_logp has ", "or none"});
  expect([](data::Sample& sample) { sample.ref_logp.push_back(0), sample.ref_logp.resize(sample.token.size() + 1); },
         {"ref_logp has "});
  expect([](data::Sample& sample) { sample.prompt_length = 1000; }, {"prompt_length is 1000 of "});
  expect([](data::Sample& sample) { sample.prompt_length = -1; }, {"prompt_length is -1 of "});
  expect([](data::Sample& sample) { sample.token[0] = 320; },
         {"token holds 320 at 0, the model's vocabulary has 320 tokens"});
  expect([](data::Sample& sample) { sample.token[0] = data::kIgnore; }, {"token holds -100 at 0"});
  expect([](data::Sample& sample) { sample.target[0] = -1; }, {"target holds -1 at 0", "-100 is no target"});
  expect(
      [](data::Sample& sample) {
        sample.token.resize(131073), sample.target.resize(131073, data::kIgnore), sample.old_logp.clear();
      },
      {"token has 131073 entries, the model has positions for 131072"});
  expect([](data::Sample& sample) { sample.weight = {1}, sample.weight.resize(sample.token.size() + 1); },
         {"weight has ", "or none"});
  expect([](data::Sample& sample) { sample.weight.assign(sample.token.size(), -1); },
         {"weight holds what is negative"});
  expect([](data::Sample& sample) { sample.prefix_length = 1; },
         {"its first 1 tokens are a demonstration's (prefix_length)", "loss.prefix_advantage: dr_grpo"});
  EXPECT_EQ(refusal(Method::kGrpo, [](data::Sample& sample) { sample.target[0] = data::kIgnore; }), "accepted");
  const auto weigh_tokens = [](data::Sample& sample) { sample.weight.assign(sample.token.size(), 1); };
  test::expect_words(refusal(Method::kDpo, weigh_tokens), {"sample 1: weight is of tokens", "give the group a weight"});
}

TEST(CheckGroups, AWeightThatIsNoneIsNamed) {
  comm::run_threads(1, [&](comm::World& world) {
    NullLog log;
    Trainer trainer(world, test::tiny_config(Method::kDpo), log);
    Groups groups = test::random_groups(Method::kDpo, 3, 5);
    groups[2].weight = -0.5;
    test::expect_words(test::error_of<DataError>([&] { trainer.step(groups); }),
                       {"group 2 of the step: weight is -0.5"});
  });
}

Groups triples() {
  Groups groups = test::random_groups(Method::kDpo, 3, 5);
  groups[2].sample.push_back(groups[2].sample.front());
  return groups;
}

TEST(CheckGroups, AGroupOfThreeIsNoPairButALossOfOnesOwnMayTakeIt) {
  for (const Method method : {Method::kDpo, Method::kReward}) {
    comm::run_threads(2, [&](comm::World& world) {
      NullLog log;
      Trainer trainer(world, test::tiny_config(method), log);
      test::expect_words(test::error_of<DataError>([&] { trainer.step(triples()); }),
                         {"group 2 of the step has 3 samples: this loss compares two"});
      Groups none = triples();
      none[0].sample.clear();
      test::expect_words(test::error_of<DataError>([&] { trainer.step(none); }),
                         {"group 0 of the step has no samples"});
      none[0].sample.resize(1, triples()[0].sample.front());
      test::expect_words(test::error_of<DataError>([&] { trainer.step(none); }), {"group 0 of the step has 1 samples"});
      if (method == Method::kReward) return;
      trainer.set_loss([](const loss::Edges& edges, const plan::StepTotals& totals) {
        return loss::LossOutput{.loss = -edges.logp.sum() / static_cast<double>(totals.edges), .metrics = {}};
      });
      EXPECT_GT(trainer.step(triples()).values.at("loss"), 0);
    });
  }
}

}  // namespace
}  // namespace fpdist::trainer
