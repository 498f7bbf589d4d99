#include "src/trainer/report/metric_sums.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <mutex>

#include "fpdist/comm/world.hpp"

namespace fpdist::trainer {
namespace {

using loss::Combine;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

TEST(MetricSums, EveryCombinationAddsUpOverPacksAndRanks) {
  std::mutex mutex;
  comm::run_threads(3, [&](comm::World& world) {
    MetricSums sums;
    sums.add("mean", Combine::kMean, 0, 0);  // an empty pack, as every rank has one
    sums.add("least", Combine::kMin, kInfinity);
    sums.add("most", Combine::kMax, -kInfinity);
    sums.add("total", Combine::kSum, 0);
    if (world.rank() > 0) {  // rank 0 has no packs
      for (int pack = 0; pack < 2; ++pack) {
        const double value = 10 * world.rank() + pack;
        sums.add("mean", Combine::kMean, value, 2);
        sums.add("least", Combine::kMin, -value);
        sums.add("most", Combine::kMax, value);
        sums.add("total", Combine::kSum, value);
      }
    }
    const auto all = sums.reduce(world.communicator());
    const std::lock_guard lock(mutex);
    EXPECT_DOUBLE_EQ(all.at("mean"), 62.0 / 8);
    EXPECT_DOUBLE_EQ(all.at("least"), -21);
    EXPECT_DOUBLE_EQ(all.at("most"), 21);
    EXPECT_DOUBLE_EQ(all.at("total"), 62);
  });
}

TEST(MetricSums, AMeanOfNothingIsZero) {
  comm::run_threads(2, [](comm::World& world) {
    MetricSums sums;
    sums.add("mean", Combine::kMean, 0, 0);
    EXPECT_EQ(sums.reduce(world.communicator()).at("mean"), 0);
  });
}

}  // namespace
}  // namespace fpdist::trainer
