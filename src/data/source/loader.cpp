#include "fpdist/data/loader.hpp"

#include <algorithm>
#include <cstdint>
#include <map>
#include <numeric>
#include <utility>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/core/rng.hpp"
#include "src/core/index.hpp"
#include "src/data/source/prefix_units.hpp"

namespace fpdist::data {
namespace {

/// Keeps the loader's draws apart from every other use of the same seed; the epoch is added.
constexpr uint64_t kLoaderStream = uint64_t{0x10ade7} << 40;

/// Apart from the permutation's draws, which are as many as an epoch has groups.
constexpr uint64_t kOffsets = uint64_t{1} << 39;

/// Fisher-Yates by hand: std::shuffle's draws differ between standard libraries.
void shuffle(std::vector<int64_t>& order, uint64_t seed, int64_t epoch) {
  Rng rng(seed, kLoaderStream + static_cast<uint64_t>(epoch));
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[rng.below(i)]);
}

/// The steps of an epoch while they are filled.
class Dealer {
 public:
  Dealer(int64_t groups, int64_t groups_per_step) {
    for (int64_t rest = groups; rest > 0; rest -= groups_per_step) room_.push_back(std::min(rest, groups_per_step));
    step_.resize(room_.size());
  }
  /// Puts all of `groups` into the first step from `wanted` on, around the end, that has room; false where none has.
  bool deal(const std::vector<int64_t>& groups, int64_t wanted) {
    for (size_t tried = 0; tried < step_.size(); ++tried) {
      const size_t at = (index(wanted) + tried) % step_.size();
      if (room_[at] < std::ssize(groups)) continue;
      for (const int64_t group : groups) put(group, at);
      return true;
    }
    return false;
  }
  /// Puts `groups` where there is room, in order.
  void fill(const std::vector<int64_t>& groups) {
    for (const int64_t group : groups) {
      while (room_[next_] == 0) ++next_;
      put(group, next_);
    }
  }
  std::vector<int64_t> order() && {
    std::vector<int64_t> all;
    for (const std::vector<int64_t>& step : step_) all.insert(all.end(), step.begin(), step.end());
    return all;
  }

 private:
  void put(int64_t group, size_t step) {
    step_[step].push_back(group);
    --room_[step];
  }
  std::vector<int64_t> room_;
  std::vector<std::vector<int64_t>> step_;
  size_t next_ = 0;
};

}  // namespace

Loader::Loader(int64_t groups, int64_t groups_per_step, uint64_t seed, bool shuffle)
    : groups_(groups), groups_per_step_(groups_per_step), seed_(seed), shuffle_(shuffle) {
  check<ConfigError>(groups > 0, "the data set has ", groups, " groups: give at least one row in data.path");
  check<ConfigError>(groups_per_step > 0, "train.groups_per_step is ", groups_per_step, ": set it to 1 or more");
}

Loader::Loader(std::vector<LoadUnit> units, int64_t groups_per_step, uint64_t seed, bool shuffle)
    : Loader(std::accumulate(units.begin(), units.end(), int64_t{0},
                             [](int64_t sum, const LoadUnit& unit) { return sum + std::ssize(unit.group); }),
             groups_per_step, seed, shuffle) {
  units_ = std::move(units);
}

int64_t Loader::steps_per_epoch() const { return (groups_ - 1) / groups_per_step_ + 1; }

void Loader::order_groups(int64_t epoch) const {
  order_.resize(index(groups_));
  std::iota(order_.begin(), order_.end(), int64_t{0});
  if (shuffle_) shuffle(order_, seed_, epoch);
}

void Loader::order_units(int64_t epoch) const {
  std::vector<int64_t> turn(units_.size());
  std::iota(turn.begin(), turn.end(), int64_t{0});
  if (shuffle_) shuffle(turn, seed_, epoch);
  Dealer dealer(groups_, groups_per_step_);
  std::map<int64_t, std::vector<int64_t>> of_cluster;
  for (const int64_t unit : turn)
    if (units_[index(unit)].cluster >= 0) of_cluster[units_[index(unit)].cluster].push_back(unit);
  std::vector<bool> is_dealt(units_.size(), false);
  Rng rng(seed_, kLoaderStream + kOffsets + static_cast<uint64_t>(epoch));
  for (const auto& [cluster, members] : of_cluster) {
    const auto first = static_cast<int64_t>(rng.below(static_cast<uint64_t>(steps_per_epoch())));
    for (size_t i = 0; i < members.size(); ++i) {
      const auto after = static_cast<int64_t>(i) * steps_per_epoch() / std::ssize(members);
      is_dealt[index(members[i])] = dealer.deal(units_[index(members[i])].group, first + after);
    }
  }
  for (const int64_t unit : turn)
    if (!is_dealt[index(unit)]) dealer.fill(units_[index(unit)].group);
  order_ = std::move(dealer).order();
}

std::vector<int64_t> Loader::step(int64_t step) const {
  check<ConfigError>(step >= 0, "step ", step, " does not exist: steps are counted from 0");
  const int64_t epoch = step / steps_per_epoch();
  if (epoch != cached_epoch_) {
    units_.empty() ? order_groups(epoch) : order_units(epoch);
    cached_epoch_ = epoch;
  }
  const int64_t begin = (step % steps_per_epoch()) * groups_per_step_;
  const int64_t end = begin + std::min(groups_per_step_, groups_ - begin);
  return {order_.begin() + begin, order_.begin() + end};
}

Loader make_loader(const Dataset& dataset, const DataOptions& options, int64_t groups_per_step, uint64_t seed) {
  if (options.batching == Batching::kPrefix) {
    const auto most = static_cast<int64_t>(options.max_cluster_share * static_cast<double>(groups_per_step));
    return {prefix_units(dataset, options.min_shared_tokens, std::max<int64_t>(1, most)), groups_per_step, seed,
            options.shuffle};
  }
  if (!dataset.unit.empty()) return {equal_units(dataset.unit), groups_per_step, seed, options.shuffle};
  return {dataset.size(), groups_per_step, seed, options.shuffle};
}

double step_sharing(const Dataset& dataset, const Loader& loader) {
  const int64_t steps = std::min<int64_t>(16, loader.steps_per_epoch());
  double sum = 0;
  for (int64_t step = 0; step < steps; ++step) sum += sharing_of(pick_groups(dataset, loader.step(step)));
  return sum / static_cast<double>(steps);
}

std::vector<Group> pick_groups(const Dataset& dataset, std::span<const int64_t> ids) {
  std::vector<Group> groups;
  groups.reserve(ids.size());
  for (const int64_t id : ids) groups.push_back(dataset.get(id));
  return groups;
}

}  // namespace fpdist::data
