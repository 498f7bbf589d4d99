#pragma once
// Tests: what a loader hands out in an epoch.

#include <cstdint>
#include <vector>

#include "fpdist/data/loader.hpp"

namespace fpdist::test {

using Ids = std::vector<int64_t>;

inline Ids epoch_of(const data::Loader& loader, int64_t epoch) {
  Ids all;
  for (int64_t step = 0; step < loader.steps_per_epoch(); ++step)
    for (const int64_t id : loader.step(epoch * loader.steps_per_epoch() + step)) all.push_back(id);
  return all;
}

}  // namespace fpdist::test
