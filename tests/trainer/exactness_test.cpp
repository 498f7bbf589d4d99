// The laws that the project stands on: sharing, packing and the number of ranks change neither loss nor gradients.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <mutex>

#include "fpdist/core/error.hpp"
#include "fpdist/trainer/trainer.hpp"
#include "tests/support/laws/metric_laws.hpp"
#include "tests/support/random/random_groups.hpp"
#include "tests/trainer/tiny_config.hpp"

namespace fpdist::trainer {
namespace {

using test::tiny_config;

struct Case {
  Method method;
  const char* variant;  // see tiny_config
};

void PrintTo(const Case& c, std::ostream* out) { *out << name_of(c.method) << " " << c.variant; }

struct Steps {
  std::vector<std::map<std::string, double>> metrics;  // of each step
  std::vector<at::Tensor> gradients;                   // of the last step, one a parameter (one rank only)
  at::Tensor weights;
  std::vector<std::string> names;
  std::vector<double> ties;  // of each step
};

Steps run_steps(const Config& config, int ranks, int steps, uint64_t seed) {
  at::set_num_threads(1);
  Steps run;
  std::mutex mutex;
  comm::run_threads(ranks, [&](comm::World& world) {
    NullLog log;
    Trainer trainer(world, config, log);
    std::vector<std::map<std::string, double>> metrics;
    for (int s = 0; s < steps; ++s)
      metrics.push_back(trainer.step(test::random_groups(config.method, 7, seed + static_cast<uint64_t>(s))).values);
    const std::lock_guard lock(mutex);
    if (world.rank() != 0) return;
    for (int s = 0; s < steps; ++s)
      run.ties.push_back(test::share_of_ties(test::random_groups(config.method, 7, seed + static_cast<uint64_t>(s))));
    run.metrics = metrics;
    run.weights = trainer.parameters().value().clone();
    for (const auto& parameter : trainer.parameters().parameters()) {
      run.gradients.push_back(parameter->main_grad.clone());
      run.names.push_back(parameter->name);
    }
  });
  return run;
}

double relative(const at::Tensor& a, const at::Tensor& b, double floor) {
  return (a - b).norm().item<double>() / std::max(b.norm().item<double>(), floor);
}

void expect_same_metrics(const Steps& a, const Steps& b, double tolerance) {
  ASSERT_EQ(a.metrics.size(), b.metrics.size());
  for (size_t s = 0; s < a.metrics.size(); ++s) {
    for (const auto& [name, value] : a.metrics[s]) {
      if (test::is_about_layout(name)) continue;
      const double tie = test::tie_tolerance(name, a.ties[s]);
      EXPECT_NEAR(value, b.metrics[s].at(name), tie + tolerance * std::max(1.0, std::abs(value)))
          << name << ", step " << s + 1;
    }
  }
}

class Exactness : public ::testing::TestWithParam<Case> {};

TEST_P(Exactness, SharingChangesNeitherLossNorAnyGradient) {
  Config config = tiny_config(GetParam().method, GetParam().variant);
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    SCOPED_TRACE(text("seed ", seed));
    config.pack.share_prefix = true;
    const Steps shared = run_steps(config, 1, 1, seed);
    config.pack.share_prefix = false;
    const Steps alone = run_steps(config, 1, 1, seed);
    EXPECT_GT(shared.metrics[0].at("sharing_ratio"), 1.05);
    EXPECT_EQ(alone.metrics[0].at("sharing_ratio"), 1.0);
    expect_same_metrics(shared, alone, 1e-10);
    double whole = 0;
    for (const at::Tensor& gradient : alone.gradients) whole = std::max(whole, gradient.norm().item<double>());
    EXPECT_GT(whole, 0);
    for (size_t p = 0; p < alone.gradients.size(); ++p)
      EXPECT_LT(relative(shared.gradients[p], alone.gradients[p], 1e-6 * whole), 1e-10) << alone.names[p];
  }
}

TEST_P(Exactness, TheNumberOfRanksChangesNothing) {
  const Config config = tiny_config(GetParam().method, GetParam().variant);
  const Steps one = run_steps(config, 1, 3, 11);
  for (const int ranks : {2, 3, 8}) {
    SCOPED_TRACE(text(ranks, " ranks, seed 11"));
    const Steps many = run_steps(config, ranks, 3, 11), again = run_steps(config, ranks, 3, 11);
    expect_same_metrics(many, one, 1e-10);
    EXPECT_LT(relative(many.weights, one.weights, 0), 1e-10);
    EXPECT_TRUE(at::equal(many.weights, again.weights)) << "the same ranks twice must give the same bits";
  }
}

INSTANTIATE_TEST_SUITE_P(Methods, Exactness,
                         ::testing::Values(Case{Method::kSft, ""}, Case{Method::kDpo, ""}, Case{Method::kReward, ""},
                                           Case{Method::kGrpo, "grpo"}, Case{Method::kGrpo, "dapo"},
                                           Case{Method::kGrpo, "dr_grpo"}, Case{Method::kGrpo, "sequence"}));

}  // namespace
}  // namespace fpdist::trainer
