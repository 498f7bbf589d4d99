// data.mixture: how often an epoch goes through each part of the data.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/core/rng.hpp"
#include "fpdist/data/loader.hpp"
#include "tests/data/source/epoch.hpp"

namespace fpdist::data {
namespace {

using test::epoch_of, test::Ids;

/// `groups` groups in units of 1 to 4, the larger ones of clusters.
std::vector<LoadUnit> random_units(int64_t groups, Rng& rng) {
  std::vector<LoadUnit> units;
  for (int64_t next = 0; next < groups;) {
    LoadUnit& unit = units.emplace_back();
    for (uint64_t size = 1 + rng.below(4); size > 0 && next < groups; --size) unit.group.push_back(next++);
    unit.cluster = static_cast<int64_t>(rng.below(3)) - 1;
  }
  return units;
}

struct RandomCase {
  explicit RandomCase(uint64_t seed) : rng(seed, 0x313) {
    parts = {{{}, 0.3}, {{}, 1}, {{}, 2.5}, {{}, static_cast<double>(1 + rng.below(30)) / 10}};
    for (int64_t group = 0; group < groups; ++group) parts[rng.below(4)].group.push_back(group);
    units = random_units(groups, rng);
  }
  Loader loader(bool by_units) const {
    return by_units ? Loader(units, per_step, 5, shuffle, parts) : Loader(groups, per_step, 5, shuffle, parts);
  }
  Rng rng;
  int64_t groups = static_cast<int64_t>(1 + rng.below(60)), per_step = static_cast<int64_t>(1 + rng.below(12));
  bool shuffle = rng.below(3) > 0;
  std::vector<LoadPart> parts;
  std::vector<LoadUnit> units;
};

TEST(Mixture, EpochsHoldEachGroupItsShareRoundedDownOrUp) {
  for (uint64_t seed = 0; seed < 120; ++seed) {
    SCOPED_TRACE(seed);
    const RandomCase one(seed);
    const Loader loader = one.loader(seed % 2 == 0);
    std::map<int64_t, int64_t> count;
    for (int64_t epochs = 1; epochs <= 7; ++epochs) {
      std::map<int64_t, int64_t> now;
      for (const int64_t id : epoch_of(loader, epochs - 1)) ++now[id];
      for (const auto& [id, times] : now) count[id] += times;
      for (const LoadPart& part : one.parts) {
        if (part.group.empty()) continue;
        const auto size = static_cast<double>(part.group.size());
        const double share = std::max(1.0, std::round(part.times * size)) / size;
        for (const int64_t id : part.group) {
          EXPECT_GE(now[id], std::floor(share - 1e-9)) << "in epoch " << epochs;
          EXPECT_LE(now[id], std::ceil(share + 1e-9)) << "in epoch " << epochs;
          EXPECT_GE(count[id], std::floor(share * static_cast<double>(epochs) - 1e-9)) << "in " << epochs;
          EXPECT_LE(count[id], std::ceil(share * static_cast<double>(epochs) + 1e-9)) << "in " << epochs;
        }
      }
    }
  }
}

TEST(Mixture, AStepDoesNotDependOnTheOrderOfCalls) {
  const RandomCase one(3);
  const Loader forwards = one.loader(true), backwards = one.loader(true);
  std::vector<Ids> steps;
  for (int64_t step = 0; step < 30; ++step) steps.push_back(forwards.step(step));
  for (int64_t step = 29; step >= 0; --step) EXPECT_EQ(backwards.step(step), steps[static_cast<size_t>(step)]);
}

TEST(Mixture, OfOnesIsNone) {
  RandomCase one(8);
  const Loader plain(one.groups, one.per_step, 5, true), units(one.units, one.per_step, 5, true);
  for (LoadPart& part : one.parts) part.times = 1;
  one.shuffle = true;
  for (int64_t epoch = 0; epoch < 3; ++epoch) {
    EXPECT_EQ(epoch_of(one.loader(false), epoch), epoch_of(plain, epoch));
    EXPECT_EQ(epoch_of(one.loader(true), epoch), epoch_of(units, epoch));
  }
}

TEST(Mixture, WithoutShufflingRoundsFollowEachOther) {
  const Loader loader(5, 5, 0, false, {{{0, 1}, 2}, {{2, 3, 4}, 1.0 / 3}});
  EXPECT_EQ(epoch_of(loader, 0), (Ids{0, 1, 2, 0, 1}));
  EXPECT_EQ(epoch_of(loader, 1), (Ids{0, 1, 3, 0, 1}));
  EXPECT_EQ(epoch_of(loader, 3), (Ids{0, 1, 2, 0, 1}));
}

TEST(Mixture, CopiesOfAUnitComeApartAndUnitsStayWhole) {
  std::vector<LoadUnit> units;
  Ids all;
  for (int64_t unit = 0; unit < 40; ++unit) {
    units.push_back({{3 * unit, 3 * unit + 1, 3 * unit + 2}, -1});
    for (const int64_t id : units.back().group) all.push_back(id);
  }
  const Loader twice(units, 24, 1, true, {{all, 2}});
  ASSERT_EQ(twice.steps_per_epoch(), 10);
  for (int64_t step = 0; step < 20; ++step) {
    const Ids ids = twice.step(step);
    EXPECT_EQ(std::set<int64_t>(ids.begin(), ids.end()).size(), ids.size()) << "a copy beside itself in step " << step;
  }
  const Loader half(units, 30, 1, true, {{all, 0.5}});
  for (int64_t epoch = 0; epoch < 4; ++epoch) {
    std::map<int64_t, int64_t> of_unit;
    for (const int64_t id : epoch_of(half, epoch)) ++of_unit[id / 3];
    EXPECT_EQ(of_unit.size(), 20U) << "half of the units, none cut";
  }
}

TEST(Mixture, TimesThatAreNoneAreRefused) {
  EXPECT_THROW(Loader(2, 1, 0, true, {{{0, 1}, 0}}), ConfigError);
  EXPECT_THROW(Loader(2, 1, 0, true, {{{0, 1}, std::nan("")}}), ConfigError);
}

}  // namespace
}  // namespace fpdist::data
