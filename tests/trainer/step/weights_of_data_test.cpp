// What data say of how much they are learned: terms are multiplied, and neither sharing nor the mesh changes that.

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "fpdist/core/rng.hpp"
#include "fpdist/trainer/trainer.hpp"
#include "tests/support/random/random_groups.hpp"
#include "tests/trainer/tiny_config.hpp"

namespace fpdist::trainer {
namespace {

using Groups = std::vector<data::Group>;

std::map<std::string, double> step(const Config& config, int ranks, const Groups& groups) {
  at::set_num_threads(1);
  std::map<std::string, double> values;
  std::mutex mutex;
  comm::run_threads(ranks, [&](comm::World& world) {
    NullLog log;
    Trainer trainer(world, config, log);
    const auto own = trainer.step(groups).values;
    const std::lock_guard lock(mutex);
    values = own;
  });
  return values;
}

/// Some samples, and some pairs, keep none.
void weigh(Groups& groups, Method method, Rng& rng) {
  for (data::Group& group : groups) {
    if (method == Method::kDpo || method == Method::kReward) {
      if (rng.below(3) > 0) group.weight = 0.5 * static_cast<double>(rng.below(5));
      continue;
    }
    for (data::Sample& sample : group.sample)
      for (size_t t = 0; t < sample.token.size() && rng.below(4) > 0; ++t)
        sample.weight.resize(sample.token.size(), 1), sample.weight[t] = 0.5 * static_cast<double>(rng.below(5));
  }
}

TEST(WeightsOfData, AreTheSameOnEveryMeshAndWithoutSharing) {
  for (const Method method : {Method::kSft, Method::kDpo, Method::kReward, Method::kGrpo}) {
    SCOPED_TRACE(name_of(method));
    Rng rng(17);
    Groups groups = test::random_groups(method, 7, 11);
    const Config plain = test::tiny_config(method);
    const double unweighted = step(plain, 1, groups).at("loss");
    weigh(groups, method, rng);
    Config alone = plain, meshed = plain;
    alone.pack.share_prefix = false;
    meshed.parallel.dp = 2, meshed.parallel.pp = 2;
    const auto wanted = step(alone, 1, groups), shared = step(plain, 1, groups), many = step(meshed, 4, groups);
    EXPECT_GT(std::abs(wanted.at("loss") - unweighted), 1e-6);
    for (const char* name : {"loss", "grad_norm"}) {
      EXPECT_NEAR(shared.at(name), wanted.at(name), 1e-10 * std::abs(wanted.at(name))) << name;
      EXPECT_NEAR(many.at(name), wanted.at(name), 1e-10 * std::abs(wanted.at(name))) << name;
    }
  }
}

TEST(WeightsOfData, OfTwoAreTwiceTheLoss) {
  for (const Method method : {Method::kSft, Method::kDpo}) {
    Groups groups = test::random_groups(method, 5, 3);
    const auto once = step(test::tiny_config(method), 1, groups);
    for (data::Group& group : groups) {
      if (method == Method::kDpo) group.weight = 2.0;
      for (data::Sample& sample : group.sample)
        if (method == Method::kSft) sample.weight.assign(sample.token.size(), 2.0);
    }
    const auto twice = step(test::tiny_config(method), 1, groups);
    for (const char* name : {"loss", "grad_norm"}) EXPECT_NEAR(twice.at(name), 2 * once.at(name), 1e-12) << name;
  }
}

}  // namespace
}  // namespace fpdist::trainer
