// The laws of every loss in a trainer: sharing changes nothing, whatever is trained; and where a loss couples the
// samples of a step, neither does how the step is cut into packs, nor the mesh.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/trainer/trainer.hpp"
#include "tests/loss/random_step.hpp"
#include "tests/support/laws/metric_laws.hpp"
#include "tests/support/random/random_groups.hpp"
#include "tests/support/words/error_of.hpp"
#include "tests/trainer/tiny_config.hpp"

namespace fpdist::trainer {
namespace {

using test::Variant;

/// Which of the table's losses, and whether some with options besides.
enum class Losses { kWithOptions, kAll, kOneAMethod };

std::vector<Variant> losses_of(Losses which) {
  std::vector<Variant> all;
  if (which == Losses::kWithOptions) all = test::optional_variants();
  for (const loss::LossSpec& spec : loss::specs()) {
    if (which == Losses::kOneAMethod && &spec != &loss::spec_of(spec.method, {})) continue;
    loss::LossOptions options{.loss_type = {std::string(spec.name)}};
    if (spec.name == "exo_pair" || spec.name == "robust") options.label_smoothing = 0.1;
    all.push_back({text(name_of(spec.method), " ", spec.name), spec.method, options});
  }
  if (which != Losses::kAll) return all;
  all.push_back({"prefix_rft", Method::kGrpo, {.prefix_advantage = "dr_grpo", .prefix_entropy_keep = 0.3}});
  all.push_back({"cpo kl", Method::kCpo, {.loss_type = {"comparative"}, .kl_weight = 0.5}});
  return all;
}

/// Completions that begin with a demonstration, many of them with the same as others of their group.
void add_prefixes(std::vector<data::Group>& groups, Rng& rng) {
  for (data::Group& group : groups)
    for (data::Sample& sample : group.sample)
      if (rng.below(4) > 0)
        sample.prefix_length = static_cast<int32_t>(
            std::min(sample.length() - sample.prompt_length, static_cast<int64_t>(1 + rng.below(4))));
}

/// A reference that is not the policy, so that ratios differ: the data's, unless an adapter makes the two differ.
std::vector<data::Group> groups_of(const Config& config, uint64_t seed) {
  const Method method = config.method;
  std::vector<data::Group> groups = test::random_groups(method, 7, seed);
  for (data::Group& group : groups) {
    group.source = static_cast<int32_t>(group.id % 2);
    group.prefix_context = {0.5F, static_cast<float>(group.id % 2)};
  }
  Rng rng(seed, 0x1055);
  if (method == Method::kDpo && !config.adapter.is_on())
    for (data::Group& group : groups)
      for (data::Sample& sample : group.sample)
        for (int64_t t = 0; t < sample.length(); ++t) sample.ref_logp.push_back(-4.2 + 0.3 * rng.normal());
  if (!config.loss.prefix_advantage.empty()) add_prefixes(groups, rng);
  return groups;
}

Config config_of(const Variant& variant) {
  Config config = test::tiny_config(variant.method);
  config.loss = variant.options;
  config.train.groups_per_step = 7;
  config.optim.learning_rate = 1e-2;
  return config;
}

struct Outcome {
  std::vector<std::map<std::string, double>> metrics;  // of each step
  std::map<std::string, at::Tensor> gradients;         // of the last
};

Outcome run(const Config& config, int ranks, int steps) {
  at::set_num_threads(1);
  Outcome outcome;
  std::mutex mutex;
  comm::run_threads(ranks, [&](comm::World& world) {
    NullLog log;
    Trainer trainer(world, config, log);
    Outcome own;
    for (int s = 0; s < steps; ++s)
      own.metrics.push_back(trainer.step(groups_of(config, 31 + static_cast<uint64_t>(s))).values);
    own.gradients = trainer.gather_gradients();
    const std::lock_guard lock(mutex);
    if (world.rank() == 0) outcome = std::move(own);
  });
  return outcome;
}

void expect_same(const Outcome& got, const Outcome& wanted, double of_loss) {
  ASSERT_EQ(got.metrics.size(), wanted.metrics.size());
  for (size_t s = 0; s < got.metrics.size(); ++s) {
    const double loss = wanted.metrics[s].at("loss");
    EXPECT_NEAR(got.metrics[s].at("loss"), loss, of_loss * std::max(1.0, std::abs(loss))) << "step " << s + 1;
    for (const auto& [name, value] : wanted.metrics[s]) {
      if (test::is_about_layout(name) || test::tie_tolerance(name, 1) > 0) continue;
      EXPECT_NEAR(got.metrics[s].at(name), value, 1e-10 * std::max(1.0, std::abs(value))) << name;
    }
  }
  double whole = 0;
  for (const auto& [name, gradient] : wanted.gradients) whole = std::max(whole, gradient.norm().item<double>());
  EXPECT_GT(whole, 0);
  for (const auto& [name, gradient] : wanted.gradients)
    EXPECT_LT((got.gradients.at(name) - gradient).norm().item<double>(),
              1e-10 * std::max(whole * 1e-3, gradient.norm().item<double>()))
        << name;
}

/// What is trained; adapters stand away from where they change nothing.
struct Trained {
  const char* name;
  Losses losses;
  arch::AdapterOptions adapter = {};
};

void PrintTo(const Trained& trained, std::ostream* out) { *out << trained.name; }

class EveryLoss : public ::testing::TestWithParam<Trained> {};

TEST_P(EveryLoss, IsTheSameWithSharedPrefixes) {
  for (const Variant& variant : losses_of(GetParam().losses)) {
    SCOPED_TRACE(variant.name);
    Config config = config_of(variant);
    config.adapter = GetParam().adapter;
    const Outcome shared = run(config, 1, 1);
    config.pack.share_prefix = false;
    expect_same(run(config, 1, 1), shared, 1e-11);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Of, EveryLoss,
    ::testing::Values(Trained{"all_weights", Losses::kWithOptions},
                      Trained{"lora",
                              Losses::kAll,
                              {.type = "lora",
                               .r = 2,
                               .lora_dropout = 0.2,
                               .target_modules = {"all-linear"},
                               .init_lora_weights = "false"}},
                      Trained{"prefix", Losses::kAll, {.type = "prefix_tuning", .num_virtual_tokens = 3}},
                      Trained{"prefix_by_source",
                              Losses::kOneAMethod,
                              {.type = "prefix_tuning",
                               .num_virtual_tokens = 2,
                               .prefix_by = "source",
                               .prefix_values = {"web", "code"},
                               .prefix_drop = 0.2}},
                      Trained{"prefix_by_context",
                              Losses::kOneAMethod,
                              {.type = "prefix_tuning",
                               .num_virtual_tokens = 2,
                               .prefix_by = "context",
                               .prefix_drop = 0.2,
                               .context_dim = 2}},
                      Trained{"prompt", Losses::kOneAMethod, {.type = "prompt_tuning", .num_virtual_tokens = 2}}),
    [](const auto& info) { return std::string(info.param.name); });

void expect_same_anywhere(const Config& config, int steps) {
  const Outcome one = run(config, 1, steps);
  const auto check = [&](const std::string& name, int ranks, auto change) {
    SCOPED_TRACE(name);
    Config changed = config;
    change(changed);
    expect_same(run(changed, ranks, steps), one, 1e-12);
  };
  check("small packs", 1, [](Config& c) { c.pack.max_tokens = 56; });
  check("one pack", 1, [](Config& c) { c.pack.max_tokens = 4096; });
  check("dp2", 2, [](Config&) {});
  check("dp4", 4, [](Config& c) { c.pack.max_tokens = 56; });
  check("tp2cp2pp2", 8,
        [](Config& c) { c.parallel.tp = 2, c.parallel.cp = 2, c.parallel.pp = 2, c.parallel.cp_chunk = 4; });
}

TEST(CoupledLosses, AreTheSameOnAnyMeshAndForPacksCutAnywhere) {
  const std::vector<Variant> coupled{
      {"aot", Method::kDpo, {.loss_type = {"aot", "sigmoid"}}},
      {"aot_unpaired", Method::kDpo, {.loss_type = {"aot_unpaired"}, .label_smoothing = 0.1, .ld_alpha = 0.3}},
      {"kto", Method::kKto, {}},
      {"prefix_rft", Method::kGrpo, {.prefix_advantage = "dr_grpo", .prefix_entropy_keep = 0.3}},
      {"top_entropy", Method::kGrpo, {.beta = 0.1, .top_entropy_quantile = 0.4, .entropy_coef = 0.05}}};
  for (const Variant& variant : coupled) {
    SCOPED_TRACE(variant.name);
    const int steps = variant.method == Method::kKto ? 2 : 1;  // in the first step its KL is 0
    expect_same_anywhere(config_of(variant), steps);
  }
}

/// Of a prefix, and of all weights in their second step: the head is then trained by the divergence too.
TEST(Divergence, IsTheSameOnAnyMeshAndForPacksCutAnywhere) {
  Config config = config_of({"kl", Method::kCpo, {.loss_type = {"comparative"}, .kl_weight = 3}});
  config.parallel.schedule = plan::Schedule::kZeroBubble;
  expect_same_anywhere(config, 2);
  config.adapter = {.type = "prefix_tuning", .num_virtual_tokens = 3};
  EXPECT_GT(run(config, 1, 1).metrics[0].at("kl"), 0.01);
  expect_same_anywhere(config, 1);
}

/// What data bring of a reference is of single tokens: the divergence asks the model itself.
TEST(Divergence, AsksTheReferenceWhateverTheDataBring) {
  Config config = config_of({"kl", Method::kCpo, {.loss_type = {"comparative"}, .kl_weight = 3}});
  config.adapter = {.type = "lora", .target_modules = {"all-linear"}, .init_lora_weights = "false"};
  comm::run_threads(1, [&](comm::World& world) {
    NullLog log;
    Trainer trainer(world, config, log);
    auto groups = groups_of(config, 3), bringing = groups;
    for (data::Group& group : bringing)
      for (data::Sample& sample : group.sample) sample.ref_logp.assign(sample.token.size(), -1.0);
    trainer.prepare_reference(bringing, {}, log);
    const auto without = trainer.evaluate(groups).values, with = trainer.evaluate(bringing).values;
    EXPECT_GT(without.at("eval_kl"), 1e-4);
    for (const char* name : {"eval_loss", "eval_kl"}) EXPECT_EQ(without.at(name), with.at(name)) << name;
  });
}

/// Its head is whole on every tp rank, and each sees its own rows.
TEST(ProcessReward, IsTheSameOnAnyMeshAndForPacksCutAnywhere) {
  Config config = config_of({"prm", Method::kPrm, {}});
  expect_same_anywhere(config, 1);
  config.adapter.type = "lora", config.adapter.init_lora_weights = "false";
  const Outcome one = run(config, 1, 1);
  EXPECT_TRUE(one.gradients.contains("score.weight") && one.gradients.contains("score.bias"));
  config.parallel.tp = 4, config.parallel.pp = 2;
  expect_same(run(config, 8, 1), one, 1e-12);
}

TEST(ProcessReward, AsksForClasses) {
  comm::run_threads(1, [&](comm::World& world) {
    NullLog log;
    const Config config = config_of({"prm", Method::kPrm, {}});
    Trainer trainer(world, config, log);
    auto groups = groups_of(config, 3);
    groups[2].sample[0].target.back() = 2;
    EXPECT_EQ(test::refusal<DataError>([&] { trainer.step(groups); }),
              "group 2 of the step, sample 0: targets are classes here, 0 or 1, -100 where nothing is judged");
  });
}

TEST(CoupledLosses, AreVerifiedAndEvaluated) {
  for (const Variant& variant :
       {Variant{"aot", Method::kDpo, {.loss_type = {"aot"}}}, Variant{"kto", Method::kKto, {}}}) {
    SCOPED_TRACE(variant.name);
    Config config = config_of(variant);
    config.pack.verify_steps = 1;
    at::set_num_threads(1);
    comm::run_threads(2, [&](comm::World& world) {
      NullLog log;
      Trainer trainer(world, config, log);
      const auto groups = groups_of(config, 3);
      const double evaluated = trainer.evaluate(groups).values.at("eval_loss");
      EXPECT_NEAR(trainer.step(groups).values.at("loss"), evaluated, 1e-12);
      EXPECT_EQ(trainer.evaluate({}).values.at("eval_loss"), 0);
    });
  }
}

TEST(SumsOfSquares, LieWhereTheirDistributionsPutThem) {
  for (const int tp : {1, 2}) {
    Config config = config_of({"wpo", Method::kDpo, {.use_weighting = true}});
    config.parallel.tp = tp;
    comm::run_threads(tp, [&](comm::World& world) {
      NullLog log;
      Trainer trainer(world, config, log);
      int64_t seen = 0;
      trainer.set_loss([&](const loss::Edges& edges, const plan::StepTotals&) {
        const at::Tensor value = edges.log_sum_sq, logp = edges.logp.detach();
        EXPECT_TRUE((value + edges.entropy).ge(-1e-12).all().item<bool>()) << "Jensen: log E[p] is at least E[log p]";
        EXPECT_TRUE(value.ge(2 * logp).logical_and(value.le(0)).all().item<bool>());
        // No more than the likeliest token's probability.
        EXPECT_TRUE((value - logp).masked_select(edges.correct.gt(0)).le(1e-12).all().item<bool>());
        seen += value.numel();
        return loss::LossOutput{.loss = edges.logp.sum(), .metrics = {}};
      });
      trainer.step(groups_of(config, 3));
      EXPECT_GT(seen, 20);
    });
  }
}

TEST(Demonstrations, AreNoLongerThanTheirCompletions) {
  comm::run_threads(1, [&](comm::World& world) {
    NullLog log;
    const Config config = config_of({"prefix", Method::kGrpo, {.prefix_advantage = "dr_grpo"}});
    Trainer trainer(world, config, log);
    auto groups = groups_of(config, 3);
    data::Sample& sample = groups[1].sample[0];
    const auto behind = sample.length() - sample.prompt_length;
    sample.prefix_length = static_cast<int32_t>(behind) + 1;
    EXPECT_EQ(test::refusal<DataError>([&] { trainer.step(groups); }),
              text("group 1 of the step, sample 0: prefix_length is ", behind + 1, " of ", behind,
                   " tokens behind the prompt"));
  });
}

TEST(Verdicts, OfSamplesAreAskedFor) {
  comm::run_threads(1, [&](comm::World& world) {
    NullLog log;
    const Config config = config_of({"kto", Method::kKto, {}});
    Trainer trainer(world, config, log);
    auto groups = groups_of(config, 3);
    groups[1].sample[0].reward = 0.5;
    EXPECT_EQ(test::refusal<DataError>([&] { trainer.step(groups); }),
              "group 1 of the step, sample 0: this loss needs a reward of 1 (wanted) or 0 (unwanted)");
    groups[1].sample[0].reward = 1;
    groups[0].sample[0].weight.assign(groups[0].sample[0].token.size(), 2.0);
    EXPECT_EQ(test::refusal<DataError>([&] { trainer.step(groups); }),
              "group 0 of the step, sample 0: weight is of tokens, and this loss compares whole answers: leave it out");
  });
}

}  // namespace
}  // namespace fpdist::trainer
