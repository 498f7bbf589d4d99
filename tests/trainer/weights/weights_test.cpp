// What trains, rank by rank: together the ranks hold every element of every weight, and its optimizer's state, once.

#include "src/trainer/weights/weights.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <map>
#include <mutex>
#include <string>

#include "fpdist/core/error.hpp"
#include "src/trainer/weights/whole_weights.hpp"

namespace fpdist::trainer {
namespace {

Config tiny(const MeshShape& mesh) {
  Config config;
  config.method = Method::kSft;
  config.model.preset = "tiny";
  config.model.dtype = DType::kFloat64;
  config.data.path = {"none"};
  static_cast<MeshShape&>(config.parallel) = mesh;
  return config;
}

/// How often the ranks that are told about update each element of a whole weight.
using Seen = std::map<std::string, at::Tensor>;

void note(Seen& seen, const TrainedWeight& weight) {
  const ops::Sharding& sharding = weight.sharding;
  const at::IntArrayRef shape = sharding.dim < 0 ? weight.value.sizes() : at::IntArrayRef(sharding.full_shape);
  at::Tensor& whole = seen.try_emplace(weight.name, at::zeros(shape, at::kLong)).first->second;
  at::Tensor own = at::zeros(weight.value.sizes(), at::kLong);
  own.view(-1).narrow(0, weight.begin, weight.master.numel()).fill_(1);
  (sharding.dim < 0 ? whole : whole.narrow(sharding.dim, sharding.begin, own.size(sharding.dim))).add_(own);
}

TEST(Weights, EveryElementIsUpdatedOnOneOfTheRanksThatHoldIt) {
  at::set_num_threads(1);
  for (const MeshShape& mesh :
       {MeshShape{.dp = 1}, MeshShape{.dp = 2, .tp = 2}, MeshShape{.dp = 1, .pp = 2, .cp = 2}}) {
    SCOPED_TRACE(to_string(mesh));
    std::mutex mutex;
    Seen seen;
    std::vector<std::pair<std::string, std::vector<int64_t>>> whole;
    comm::run_threads(static_cast<int>(mesh.size()), [&](comm::World& world) {
      NullLog log;
      const Job job(world, tiny(mesh), log);
      Weights weights(job);
      weights.visit([&](const TrainedWeight& weight) {
        const std::lock_guard lock(mutex);
        const at::Tensor updated = weight.value.reshape(-1).narrow(0, weight.begin, weight.master.numel());
        EXPECT_TRUE(at::equal(weight.master, updated)) << weight.name;
        EXPECT_EQ(weight.gradient.sizes(), weight.value.sizes()) << weight.name;
        for (const at::Tensor& moment : {weight.exp_avg, weight.exp_avg_sq})
          EXPECT_TRUE(at::equal(moment, at::zeros_like(weight.master))) << weight.name << ": no step has been";
        if (weight.sharding.counted) note(seen, weight);
      });
      if (world.rank() == 0) whole = arch::parameters(job.model, weights.head());
    });
    ASSERT_EQ(seen.size(), whole.size());
    for (const auto& [name, shape] : whole) {
      ASSERT_TRUE(seen.contains(name)) << name;
      EXPECT_TRUE(at::equal(seen.at(name), at::ones(shape, at::kLong))) << name;
    }
  }
}

TEST(Weights, AnUpdateMovesThemByTheSummedGradientAndTellsItsNorm) {
  at::set_num_threads(1);
  std::map<std::string, at::Tensor> before, gradients, after;
  comm::run_threads(2, [&](comm::World& world) {
    NullLog log;
    Config config = tiny({.dp = 2});
    config.optim.max_grad_norm = 0, config.optim.learning_rate = 1;
    const Job job(world, config, log);
    Weights weights(job);
    auto old = gather_whole(job, weights, WholeOf::kValues);
    weights.begin_step();
    weights.parameters().main_grad().fill_(world.rank() + 1);  // 1 + 2
    weights.complete(weights.all());
    const Updated updated = weights.update({.factor = 0.5});
    EXPECT_EQ(updated.stopped.item<float>(), 0);
    const double elements = static_cast<double>(weights.parameters().size());
    EXPECT_DOUBLE_EQ(updated.grad_norm.item<double>(), 3 * std::sqrt(elements));
    EXPECT_FALSE(weights.before_use(weights.all()).has_value()) << "nothing of the host travels";
    auto sums = gather_whole(job, weights, WholeOf::kGradients), now = gather_whole(job, weights, WholeOf::kValues);
    if (world.rank() == 0) before = std::move(old), gradients = std::move(sums), after = std::move(now);
  });
  for (const auto& [name, value] : before) {
    EXPECT_TRUE(at::equal(gradients.at(name), at::full_like(value, 3))) << name;
    EXPECT_TRUE(at::allclose(after.at(name), value - 0.5, 1e-6, 1e-6)) << name << ": AdamW's first step";
  }
}

TEST(Weights, WhereNothingMovesGradientsStayWhatTheyAre) {
  at::set_num_threads(1);
  comm::run_threads(1, [&](comm::World& world) {
    NullLog log;
    Config config = tiny({.dp = 1});
    config.optim.max_grad_norm = 0.5;
    const Job job(world, config, log);
    Weights weights(job);
    const at::Tensor before = weights.parameters().value().clone();
    const auto update = [&](double first, double most_norm) {
      weights.begin_step();
      weights.parameters().main_grad().fill_(1)[7] = first;
      const Updated updated = weights.update({.factor = 1, .most_norm = most_norm});
      int64_t changed = 0;
      for (const GradientPart& part : weights.gradients()) changed += part.value.ne(1).sum().item<int64_t>();
      EXPECT_EQ(updated.stopped.item<float>(), 1);
      EXPECT_EQ(updated.not_finite.item<float>(), std::isfinite(first) ? 0 : 1);
      EXPECT_TRUE(at::equal(weights.parameters().value(), before));
      weights.take_back();
      return changed;
    };
    EXPECT_EQ(update(std::nan(""), 1e9), 1) << "the norm is not finite, one gradient is why";
    EXPECT_EQ(update(1, 2), 0) << "a spike";
  });
}

TEST(Weights, NothingMovesWhereALossOfAnyRankIsNotFinite) {
  at::set_num_threads(1);
  comm::run_threads(2, [&](comm::World& world) {
    NullLog log;
    const Job job(world, tiny({.dp = 2}), log);
    Weights weights(job);
    const at::Tensor before = weights.parameters().value().clone();
    weights.begin_step();
    weights.parameters().main_grad().fill_(1);
    const at::Tensor loss = at::full({}, world.rank() == 0 ? 1.0 : std::nan(""), at::kDouble);
    const Updated updated = weights.update({.factor = 0.5, .losses = {&loss, 1}});
    EXPECT_EQ(updated.stopped.item<float>(), 1);
    EXPECT_TRUE(at::equal(weights.parameters().value(), before));
  });
}

}  // namespace
}  // namespace fpdist::trainer
