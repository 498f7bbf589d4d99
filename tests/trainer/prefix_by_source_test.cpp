// Runs that train a prefix for each source of their rows: each is what it would be alone, and nobody else stands behind
// it.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "fpdist/checkpoint/hf_directory.hpp"
#include "src/main/export/export_prefix.hpp"
#include "tests/support/random/random_groups.hpp"
#include "tests/trainer/prefix_runs.hpp"

namespace fpdist::trainer {
namespace {

using test::expect_close, test::expect_words, test::refusal, test::Outcome, test::Tensors;

constexpr int64_t kTokens = 3;

/// Groups from `source`; from both in turn where it is -1.
std::vector<data::Group> groups_of(Method method, int32_t source, uint64_t seed = 5) {
  std::vector<data::Group> groups = test::random_groups(method, 6, seed);
  for (data::Group& group : groups) group.source = source >= 0 ? source : static_cast<int32_t>(group.id % 2);
  return groups;
}

class PrefixesBySource : public test::PrefixRuns {
 protected:
  static Config by_source(const std::string& type, Method method = Method::kDpo, double drop = 0) {
    Config config = test::tiny_config(method);
    config.adapter = {.type = type, .num_virtual_tokens = kTokens};
    config.adapter.prefix_by = "source", config.adapter.prefix_values = {"web", "code"};
    config.adapter.prefix_drop = drop;
    return config;
  }
};

/// Rows of the prefix `number`, of a tensor that holds all behind each other.
at::Tensor of_prefix(const at::Tensor& all, int64_t number) { return all.narrow(0, number * kTokens, kTokens); }

/// The first of them begins as a prefix alone does, which stands beside the rows instead of among them.
TEST_F(PrefixesBySource, OfOneSourceAreThePrefixOfAll) {
  for (const char* type : {"prefix_tuning", "prompt_tuning"})
    for (const bool is_projected : {false, true}) {
      if (is_projected && std::string_view(type) == "prompt_tuning") continue;
      SCOPED_TRACE(text(type, is_projected ? ", projected" : ""));
      Config config = by_source(type), alone = config;
      config.adapter.prefix_projection = alone.adapter.prefix_projection = is_projected;
      alone.adapter.prefix_by = "none", alone.adapter.prefix_values.clear();
      const Outcome one = step_of(config, groups_of(config.method, 0)),
                    wanted = step_of(alone, groups_of(config.method, 0));
      for (const char* name : {"loss", "rewards/chosen", "logps/chosen", "grad_norm"})
        EXPECT_NEAR(one.metrics.at(name), wanted.metrics.at(name), 1e-10 * std::abs(wanted.metrics.at(name))) << name;
      for (const auto& [name, gradient] : wanted.gradients) {
        const at::Tensor& got = one.gradients.at(name);
        if (got.sizes() == gradient.sizes()) {
          expect_close(got, gradient, name);
        } else {
          expect_close(of_prefix(got, 0), gradient, name);
          EXPECT_EQ(of_prefix(got, 1).abs().max().item<double>(), 0) << name;
        }
      }
    }
}

TEST_F(PrefixesBySource, OfTwoSourcesInAStepAddTheirGradients) {
  for (const char* type : {"prefix_tuning", "prompt_tuning"}) {
    SCOPED_TRACE(type);
    const Config config = by_source(type);
    const std::vector<data::Group> all = groups_of(config.method, -1);
    const Outcome together = step_of(config, all);
    for (int32_t source = 0; source < 2; ++source) {
      std::vector<data::Group> own;
      for (const data::Group& group : all)
        if (group.source == source) own.push_back(group);
      const Outcome alone = step_of(config, own);
      const double share = static_cast<double>(own.size()) / static_cast<double>(all.size());  // of the mean over pairs
      for (const auto& [name, gradient] : alone.gradients)
        expect_close(of_prefix(together.gradients.at(name), source), share * of_prefix(gradient, source), name);
    }
  }
}

TEST_F(PrefixesBySource, ShareNothingAcrossSourcesAndAllElse) {
  for (const double drop : {0.0, 0.4})
    for (const Method method : {Method::kSft, Method::kDpo, Method::kReward}) {
      SCOPED_TRACE(text(name_of(method), ", drop ", drop));
      Config config = by_source("prefix_tuning", method, drop);
      const auto groups = groups_of(method, -1);
      const Outcome shared = step_of(config, groups);
      config.pack.share_prefix = false;
      const Outcome alone = step_of(config, groups);
      EXPECT_GT(shared.metrics.at("sharing_ratio"), 1.05);
      EXPECT_NEAR(shared.metrics.at("loss"), alone.metrics.at("loss"), 1e-10);
      for (const auto& [name, gradient] : alone.gradients) expect_close(shared.gradients.at(name), gradient, name);
    }
  // The same rows of two sources have no token in common.
  Config config = by_source("prompt_tuning", Method::kSft);
  std::vector<data::Group> groups = groups_of(Method::kSft, 0);
  groups.resize(2), groups[1].sample = groups[0].sample = {groups[0].sample[0]};
  const double one_source = step_of(config, groups).metrics.at("sharing_ratio");
  groups[1].source = 1;
  EXPECT_EQ(step_of(config, groups).metrics.at("sharing_ratio"), 1);
  EXPECT_EQ(one_source, 2);
}

TEST_F(PrefixesBySource, AreDroppedForGroupsOfAStepAndNeverInEvaluations) {
  for (const char* type : {"prefix_tuning", "prompt_tuning"})
    for (const Method method : {Method::kSft, Method::kDpo}) {
      SCOPED_TRACE(text(type, ", ", name_of(method)));
      const Config bare = test::tiny_config(method), none = by_source(type, method), all = by_source(type, method, 1),
                   half = by_source(type, method, 0.5);
      const auto groups = groups_of(method, -1, 8);
      const Outcome dropped = step_of(all, groups);
      EXPECT_NEAR(dropped.metrics.at("loss"), step_of(bare, groups).metrics.at("loss"), 1e-12);
      for (const auto& [name, gradient] : dropped.gradients) EXPECT_EQ(gradient.abs().max().item<double>(), 0) << name;
      const double some = step_of(half, groups).metrics.at("loss");
      EXPECT_NE(some, dropped.metrics.at("loss"));
      EXPECT_NE(some, step_of(none, groups).metrics.at("loss"));
      double evaluated = 0, wanted = 0;
      with(half, [&](Trainer& trainer) { evaluated = trainer.evaluate(groups).values.at("eval_loss"); });
      with(none, [&](Trainer& trainer) { wanted = trainer.evaluate(groups).values.at("eval_loss"); });
      EXPECT_EQ(evaluated, wanted);
    }
}

/// A step that was planned ahead for another number is planned again.
TEST_F(PrefixesBySource, AreDroppedByTheStepsNumberPlannedAheadOrNot) {
  const Config config = by_source("prefix_tuning", Method::kDpo, 0.5);
  std::vector<std::shared_ptr<const std::vector<data::Group>>> steps;
  for (uint64_t step = 0; step < 4; ++step)
    steps.push_back(std::make_shared<const std::vector<data::Group>>(groups_of(config.method, -1, step)));
  const auto losses = [&](auto plan_ahead) {
    std::vector<double> all;
    with(config, [&](Trainer& trainer) {
      for (size_t step = 0; step < steps.size(); ++step) {
        plan_ahead(trainer, step);
        all.push_back(trainer.step(*steps[step]).values.at("loss"));
      }
    });
    return all;
  };
  const auto never = losses([](Trainer&, size_t) {});
  EXPECT_EQ(losses([&](Trainer& trainer, size_t step) {
              if (step + 1 < steps.size()) trainer.plan_ahead(steps[step + 1]);
            }),
            never);
  EXPECT_EQ(losses([&](Trainer& trainer, size_t step) { trainer.plan_ahead(steps[step]); }), never);
}

TEST_F(PrefixesBySource, HaveTheModelAsReferenceOrThoseGoneOnFrom) {
  Config config = by_source("prefix_tuning");
  config.loss.beta = 0.1;
  const auto groups = groups_of(config.method, -1);
  const Outcome first = step_of(config, groups);
  const double of_reference = first.metrics.at("logps/chosen") - first.metrics.at("rewards/chosen") / config.loss.beta;
  EXPECT_NEAR(of_reference, step_of(test::tiny_config(Method::kDpo), groups).metrics.at("logps/chosen"), 1e-10);
  const std::string folder = scratch_ / "adapter";
  Tensors saved, read;
  with(config, [&](Trainer& trainer) {
    trainer.step(groups);
    trainer.save(folder);
    saved = trainer.gather_weights();
  });
  Config on = test::tiny_config(Method::kDpo);
  on.adapter.path = folder;
  on.loss.precompute_ref_log_probs = true;
  with(on, [&](Trainer& trainer) {
    EXPECT_EQ(trainer.settled().config.adapter.prefix_values, config.adapter.prefix_values);
    read = trainer.gather_weights();
    std::vector<data::Group> with_logps = groups;
    NullLog log;
    trainer.prepare_reference(with_logps, {}, log);
    EXPECT_FALSE(with_logps[0].sample[0].ref_logp.empty());
  });
  for (const auto& [name, weight] : saved) EXPECT_TRUE(at::equal(read.at(name), weight)) << name;
  on.loss.precompute_ref_log_probs = false;
  EXPECT_EQ(step_of(on, groups).metrics.at("rewards/chosen"), 0);
  std::string json = test::slurp(folder + "/adapter_config.json");
  json.replace(json.find("\"prefix_drop\": 0.0"), 18, "\"prefix_drop\": 0.5");
  test::spill(folder + "/adapter_config.json", json);
  EXPECT_EQ(step_of(on, groups).metrics.at("rewards/chosen"), 0) << "dropped in both";
  on.loss.precompute_ref_log_probs = true;
  expect_words(fault(on, groups), {"loss.precompute_ref_log_probs", "adapter.prefix_drop", "leave one out"});
}

TEST_F(PrefixesBySource, BecomePeftsDirectoriesOneByOne) {
  for (const char* type : {"prefix_tuning", "prompt_tuning"}) {
    const Config config = by_source(type, Method::kReward);
    const std::string folder = scratch_ / type, one = folder + "-code";
    with(config, [&](Trainer& trainer) {
      trainer.step(groups_of(config.method, -1));
      trainer.save(folder);
    });
    main_program::export_prefix({.from = folder, .to = one, .dtype = {}, .prefix = "code"});
    expect_words(test::slurp(one + "/adapter_config.json"),
                 {std::string_view(type) == "prefix_tuning" ? "\"PREFIX_TUNING\"" : "\"PROMPT_TUNING\"",
                  "\"num_virtual_tokens\": 3"});
    Config all = test::tiny_config(config.method), alone = all;
    all.adapter.path = folder, alone.adapter.path = one;
    const auto groups = groups_of(config.method, 1);
    EXPECT_NEAR(step_of(all, groups).metrics.at("loss"), step_of(alone, groups).metrics.at("loss"), 1e-12);
    expect_words(refusal<ConfigError>(
                     [&] { main_program::export_prefix({.from = folder, .to = one, .dtype = {}, .prefix = "maths"}); }),
                 {"has no prefix of 'maths'", "web, code"});
    expect_words(refusal<ConfigError>(
                     [&] { main_program::export_prefix({.from = one, .to = one, .dtype = {}, .prefix = "code"}); }),
                 {"holds no prefixes by source"});
  }
}

TEST_F(PrefixesBySource, RefuseWhatDoesNotFitInOneLine) {
  const auto groups = groups_of(Method::kDpo, -1);
  Config config = by_source("prefix_tuning");
  std::vector<data::Group> without = groups;
  without[3].source = -1;
  expect_words(fault(config, without), {"group 3", "its source is -1", "2 prefixes"});
  const auto refused = [&](auto change) {
    Config changed = by_source("prefix_tuning");
    change(changed.adapter);
    return fault(changed, groups);
  };
  using Options = arch::AdapterOptions;
  expect_words(refused([](Options& o) { o.prefix_values.clear(); }),
               {"adapter.prefix_by is source", "prefix_values: [web, code]"});
  expect_words(refused([](Options& o) { o.prefix_by = "none"; }), {"adapter.prefix_by is none", "prefix_by: source"});
  expect_words(refused([](Options& o) { o.prefix_values = {"web", "web"}; }), {"'web' more than once"});
  expect_words(refused([](Options& o) { o.prefix_default = "maths"; }), {"'maths' is none of adapter.prefix_values"});
  expect_words(refused([](Options& o) { o.type = "cartridge"; }),
               {"prefix_by is a key of prefix_tuning or prompt_tuning"});
  Config online = by_source("prefix_tuning", Method::kGrpo);
  online.data.path.clear(), online.rollout.prompts = {"prompts.jsonl"};
  expect_words(refusal<ConfigError>([&] { (void)config::settle(online, 1); }),
               {"adapter.prefix_by", "rollout.prompts"});
  with(config, [&](Trainer& trainer) {
    const std::vector<std::vector<int32_t>> prompts{{1, 2}};
    expect_words(refusal<ConfigError>([&] { trainer.check_rollouts(prompts, {}); }), {"prefix_tuning by source"});
  });
}

}  // namespace
}  // namespace fpdist::trainer
