#include "fpdist/data/loader.hpp"

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/core/rng.hpp"
#include "src/core/index.hpp"

namespace fpdist::data {
namespace {

/// Keeps the loader's draws apart from every other use of the same seed; the epoch is added.
constexpr uint64_t kLoaderStream = uint64_t{0x10ade7} << 40;

}  // namespace

Loader::Loader(int64_t groups, int64_t groups_per_step, uint64_t seed, bool shuffle)
    : groups_(groups), groups_per_step_(groups_per_step), seed_(seed), shuffle_(shuffle) {
  check<ConfigError>(groups > 0, "the data set has ", groups, " groups: give at least one row in data.path");
  check<ConfigError>(groups_per_step > 0, "train.groups_per_step is ", groups_per_step, ": set it to 1 or more");
}

int64_t Loader::steps_per_epoch() const { return (groups_ - 1) / groups_per_step_ + 1; }

std::vector<int64_t> Loader::step(int64_t step) const {
  check<ConfigError>(step >= 0, "step ", step, " does not exist: steps are counted from 0");
  const int64_t epoch = step / steps_per_epoch();
  if (epoch != cached_epoch_) {
    order_.resize(index(groups_));
    std::iota(order_.begin(), order_.end(), int64_t{0});
    if (shuffle_) {  // Fisher-Yates by hand: std::shuffle's draws differ between standard libraries
      Rng rng(seed_, kLoaderStream + static_cast<uint64_t>(epoch));
      for (size_t i = order_.size(); i > 1; --i) std::swap(order_[i - 1], order_[rng.below(i)]);
    }
    cached_epoch_ = epoch;
  }
  const int64_t begin = (step % steps_per_epoch()) * groups_per_step_;
  const int64_t end = begin + std::min(groups_per_step_, groups_ - begin);
  return {order_.begin() + begin, order_.begin() + end};
}

std::vector<Group> pick_groups(const Dataset& dataset, std::span<const int64_t> ids) {
  std::vector<Group> groups;
  groups.reserve(ids.size());
  for (const int64_t id : ids) groups.push_back(dataset.group[index(id)]);
  return groups;
}

}  // namespace fpdist::data
