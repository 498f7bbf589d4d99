#include "fpdist/data/loader.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/core/rng.hpp"
#include "tests/data/source/epoch.hpp"

namespace fpdist::data {
namespace {

using test::epoch_of, test::Ids;

TEST(Loader, AnEpochHoldsEachGroupOnce) {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    SCOPED_TRACE(seed);
    Rng rng(seed);
    const auto groups = static_cast<int64_t>(1 + rng.below(40));
    const Loader loader(groups, static_cast<int64_t>(1 + rng.below(12)), seed, rng.below(2) == 0);
    Ids wanted(static_cast<size_t>(groups));
    std::iota(wanted.begin(), wanted.end(), 0);
    for (int64_t epoch = 0; epoch < 3; ++epoch) {
      Ids all = epoch_of(loader, epoch);
      std::sort(all.begin(), all.end());
      EXPECT_EQ(all, wanted);
    }
  }
}

TEST(Loader, AStepDoesNotDependOnTheOrderOfCalls) {
  const Loader forwards(37, 5, 11, true), backwards(37, 5, 11, true);
  std::vector<Ids> steps;
  for (int64_t step = 0; step < 30; ++step) steps.push_back(forwards.step(step));
  for (int64_t step = 29; step >= 0; --step) EXPECT_EQ(backwards.step(step), steps[static_cast<size_t>(step)]);
}

TEST(Loader, EpochsAndSeedsDiffer) {
  const Loader loader(100, 10, 1, true), other(100, 10, 2, true);
  EXPECT_NE(epoch_of(loader, 0), epoch_of(loader, 1));
  EXPECT_NE(epoch_of(loader, 0), epoch_of(other, 0));
}

TEST(Loader, WithoutShufflingItIsFileOrderAndTheLastStepIsShort) {
  const Loader loader(7, 3, 1, false);
  EXPECT_EQ(loader.steps_per_epoch(), 3);
  EXPECT_EQ(loader.step(0), (Ids{0, 1, 2}));
  EXPECT_EQ(loader.step(2), (Ids{6}));
  EXPECT_EQ(loader.step(3), (Ids{0, 1, 2}));
}

TEST(Loader, ADrawIsTheSameOnEveryMachine) { EXPECT_EQ(Loader(8, 8, 42, true).step(0), (Ids{6, 5, 7, 4, 1, 2, 3, 0})); }

TEST(Loader, NothingToLoadIsAnError) {
  EXPECT_THROW(Loader(0, 1, 0, true), ConfigError);
  EXPECT_THROW(Loader(1, 0, 0, true), ConfigError);
  EXPECT_THROW(Loader(1, 1, 0, true).step(-1), ConfigError);
}

}  // namespace
}  // namespace fpdist::data
