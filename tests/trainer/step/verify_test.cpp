// pack.verify_steps: no alarm for what is zero by construction, and one for every fault that was planted.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/trainer/trainer.hpp"
#include "src/ops/main_grad.hpp"
#include "tests/support/random/random_groups.hpp"
#include "tests/support/ranks/error_on_ranks.hpp"
#include "tests/support/words/heard_log.hpp"

namespace fpdist::trainer {
namespace {

constexpr DType kEveryDType[] = {DType::kFloat32, DType::kFloat64, DType::kBFloat16};

Config verified(Method method, DType dtype) {
  at::set_num_threads(1);
  Config config;
  config.method = method;
  config.model.preset = "tiny";
  config.model.seed = 3;
  config.model.dtype = dtype;
  config.data.path = {"unused"};
  config.train.max_steps = 1000;
  config.optim.learning_rate = 1e-3;
  config.pack.verify_steps = 1000;
  return config;
}

data::Sample sample_of(std::vector<int32_t> prompt, const std::string& completion) {
  data::Sample sample;
  sample.token = std::move(prompt);
  sample.prompt_length = static_cast<int32_t>(sample.token.size());
  sample.target.assign(sample.token.size(), data::kIgnore);
  for (const char byte : completion) sample.token.push_back(byte), sample.target.push_back(byte);
  return sample;
}

/// Rollouts of one policy: no old log-probs, rewards given.
data::Group rollouts(const std::string& prompt, const std::vector<std::pair<std::string, double>>& completions) {
  data::Group group;
  for (const auto& [text, reward] : completions) {
    group.sample.push_back(sample_of({prompt.begin(), prompt.end()}, text));
    group.sample.back().reward = reward;
  }
  return group;
}

std::vector<data::Group> on_policy() {
  std::vector<data::Group> groups{rollouts("2+3=", {{"5$", 1}, {"6$", 0}, {"7$", 0.3}}),
                                  rollouts("4+4=", {{"8$", 1}, {"9$", 0.1}, {"1$", 0}})};
  groups[1].id = 1;
  return groups;
}

/// Steps on `groups`; the last step's metrics.
std::map<std::string, double> step_on(const Config& config, std::vector<data::Group> groups, int steps = 1) {
  std::map<std::string, double> last;
  comm::run_threads(1, [&](comm::World& world) {
    NullLog log;
    Trainer trainer(world, config, log);
    trainer.prepare_reference(groups, log);
    for (int step = 0; step < steps; ++step) last = trainer.step(groups).values;
  });
  return last;
}

TEST(Verify, EveryMethodPasses) {
  for (const Method method : {Method::kSft, Method::kDpo, Method::kReward, Method::kGrpo})
    for (const DType dtype : kEveryDType) {
      const Config config = verified(method, dtype);
      comm::run_threads(2, [&](comm::World& world) {
        NullLog log;
        Trainer trainer(world, config, log);
        for (uint64_t step = 0; step < 2; ++step) trainer.step(test::random_groups(method, 5, step));
      });
    }
}

TEST(Verify, ALossWhoseTermsCancelPasses) {
  for (const DType dtype : kEveryDType)
    for (const char* loss_type : {"grpo", "dapo", "dr_grpo"}) {
      SCOPED_TRACE(text(name_of(dtype), " ", loss_type));
      Config config = verified(Method::kGrpo, dtype);
      config.loss.loss_type = {loss_type};
      config.pack.max_tokens = 10;  // shared, a group is one pack; unshared, two
      const auto metrics = step_on(config, on_policy());
      EXPECT_LT(std::abs(metrics.at("loss")), 1e-6) << "zero by construction: advantages add up to 0";
      EXPECT_GT(metrics.at("grad_norm"), 0.01);
    }
}

TEST(Verify, AGradientThatCancelsPasses) {
  data::Group pair;  // both answers alike: what the one gives, the other takes
  pair.sample = {sample_of({1, 2, 3}, "same"), sample_of({1, 2, 3}, "same")};
  for (const DType dtype : kEveryDType) {
    SCOPED_TRACE(name_of(dtype));
    Config config = verified(Method::kDpo, dtype);
    config.pack.max_tokens = 14;
    EXPECT_LT(step_on(config, {pair}).at("grad_norm"), 1e-2);
    // One answer, two rewards (a noisy judge).
    EXPECT_LT(step_on(verified(Method::kGrpo, dtype), {rollouts("a", {{"bc", 1}, {"bc", 0}})}).at("grad_norm"), 1e-2);
  }
}

TEST(Verify, APolicyThatIsItsReferencePasses) {
  Config config = verified(Method::kGrpo, DType::kFloat32);
  config.loss.beta = 0.1;
  config.loss.precompute_ref_log_probs = true;  // as they would come with the data: rounded once, and for good
  const auto metrics = step_on(config, {rollouts("2+3=", {{"5$", 1}, {"67$", 1}, {"677$", 1}})});
  EXPECT_LT(std::abs(metrics.at("loss")), 1e-6);
  EXPECT_LT(metrics.at("grad_norm"), 1e-4) << "rewards alike, no distance: nothing to learn";
}

TEST(Verify, AModelThatHasLearnedEverythingPasses) {
  Config config = verified(Method::kSft, DType::kFloat32);
  config.optim.learning_rate = 5e-3;
  std::vector<data::Group> groups(3);
  for (int g = 0; g < 3; ++g) groups[g].id = g, groups[g].sample = {sample_of({1, 2, 3 + g}, "abc$")};
  EXPECT_LT(step_on(config, groups, 60).at("loss"), 1e-3);
}

/// What the shared way of a step says when `plant` is at work in it, and not in the unshared one. `plant` changes the
/// edges ahead of the loss, or the output behind it.
struct Plant {
  std::function<void(loss::Edges&)> edges = [](loss::Edges&) {};
  std::function<void(loss::LossOutput&, Trainer&)> output = [](loss::LossOutput&, Trainer&) {};
};

std::string caught(const Config& config, const std::vector<data::Group>& groups, const Plant& plant) {
  return test::error_on_ranks<NumericsError>(1, [&](comm::World& world) {
    NullLog log;
    Trainer trainer(world, config, log);
    const loss::LossFunction right = loss::make_loss(config.method, trainer.settled().config.loss);
    bool is_shared = true;  // the first pack
    trainer.set_loss([&](const loss::Edges& edges, const plan::StepTotals& totals) {
      if (edges.sample.numel() == 0 || !std::exchange(is_shared, false)) return right(edges, totals);
      loss::Edges changed = edges;
      plant.edges(changed);
      loss::LossOutput output = right(changed, totals);
      plant.output(output, trainer);
      return output;
    });
    trainer.step(groups);
  });
}

TEST(Verify, AnAdvantageOfTheNextSampleIsFoundThoughTheLossIsZero) {
  for (const DType dtype : kEveryDType) {
    SCOPED_TRACE(name_of(dtype));
    const std::string what = caught(verified(Method::kGrpo, dtype), on_policy(),
                                    {.edges = [](loss::Edges& edges) { edges.advantage = edges.advantage.roll(1); }});
    test::expect_words(what, {"step 1", "shared and unshared disagree", ".weight"});
  }
}

TEST(Verify, TheWorstTensorIsNamed) {
  const std::string name = "model.layers.2.mlp.up_proj.weight";
  for (const DType dtype : kEveryDType) {
    SCOPED_TRACE(name_of(dtype));
    const std::string what =
        caught(verified(Method::kGrpo, dtype), on_policy(), {.output = [&](loss::LossOutput&, Trainer& trainer) {
                 for (const auto& parameter : trainer.parameters().parameters())
                   if (parameter->name == name) ops::MainGrad(*parameter).add(at::full_like(parameter->main_grad, 0.1));
               }});
    test::expect_words(what, {"shared and unshared disagree", "in " + name});
  }
}

TEST(Verify, ALossThatLacksATermIsFound) {
  const std::string what =
      caught(verified(Method::kGrpo, DType::kFloat32), on_policy(),
             {.output = [](loss::LossOutput& output, Trainer&) { output.loss = output.loss + 0.2; }});
  test::expect_words(what, {"shared and unshared disagree", "in the loss"});
}

TEST(Verify, LogProbsOfTheNextTokenAreFound) {
  Config config = verified(Method::kSft, DType::kFloat32);
  const auto groups = test::random_groups(Method::kSft, 3, 1);
  const std::string what =
      caught(config, groups, {.edges = [](loss::Edges& edges) { edges.logp = edges.logp.roll(1) * 1.01; }});
  test::expect_words(what, {"shared and unshared disagree"});
}

TEST(Verify, ThePassIsSaidWithItsWorstPlace) {
  test::HeardLog log;
  comm::run_threads(1, [&](comm::World& world) {
    Trainer trainer(world, verified(Method::kGrpo, DType::kFloat32), log);
    trainer.step(on_policy());
  });
  test::expect_words(log.said(), {"info verified step 1", "differs by"});
}

}  // namespace
}  // namespace fpdist::trainer
