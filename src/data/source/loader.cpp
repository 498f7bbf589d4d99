#include "fpdist/data/loader.hpp"

#include <algorithm>
#include <cmath>
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

/// Apart from both: which groups of a part an epoch begins with.
constexpr uint64_t kTurns = uint64_t{3} << 38;

/// Fisher-Yates by hand: std::shuffle's draws differ between standard libraries.
void shuffle(std::vector<int64_t>& order, Rng rng) {
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[rng.below(i)]);
}

std::vector<int64_t> iota(int64_t count) {
  std::vector<int64_t> numbers(index(count));
  std::iota(numbers.begin(), numbers.end(), int64_t{0});
  return numbers;
}

/// Groups that an epoch has of a part. Never none.
int64_t epoch_groups(const LoadPart& part) {
  if (part.group.empty()) return 0;
  return std::max<int64_t>(1, std::llround(part.times * static_cast<double>(part.group.size())));
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

/// What data.mixture makes of the groups: a part for each of data.path's entries, or none.
std::vector<LoadPart> parts_of(const Dataset& dataset, const DataOptions& options) {
  if (options.mixture.empty()) return {};
  std::vector<LoadPart> parts(options.path.size());
  for (size_t entry = 0; entry < parts.size(); ++entry) parts[entry].times = options.times(options.path[entry]);
  for (size_t group = 0; group < dataset.place.size(); ++group)
    parts.at(index(dataset.entry.at(index(dataset.place[group].file)))).group.push_back(static_cast<int64_t>(group));
  return parts;
}

}  // namespace

Loader::Loader(int64_t groups, int64_t groups_per_step, uint64_t seed, bool shuffle, std::vector<LoadPart> parts)
    : groups_(groups), groups_per_step_(groups_per_step), seed_(seed), shuffle_(shuffle), epoch_groups_(groups) {
  check<ConfigError>(groups > 0, "the data set has ", groups, " groups: give at least one row in data.path");
  check<ConfigError>(groups_per_step > 0, "train.groups_per_step is ", groups_per_step, ": set it to 1 or more");
  set_parts(std::move(parts));
}

Loader::Loader(std::vector<LoadUnit> units, int64_t groups_per_step, uint64_t seed, bool shuffle,
               std::vector<LoadPart> parts)
    : Loader(std::accumulate(units.begin(), units.end(), int64_t{0},
                             [](int64_t sum, const LoadUnit& unit) { return sum + std::ssize(unit.group); }),
             groups_per_step, seed, shuffle) {
  units_ = std::move(units);
  set_parts(std::move(parts));
}

int64_t Loader::steps_per_epoch() const { return (epoch_groups_ - 1) / groups_per_step_ + 1; }

/// Parts draw their groups in an order in which units stay together.
void Loader::set_parts(std::vector<LoadPart> parts) {
  if (parts.empty()) return;
  std::vector<int64_t> turn = iota(units_.empty() ? groups_ : std::ssize(units_));
  if (shuffle_) shuffle(turn, Rng(seed_, kLoaderStream + kTurns));
  std::vector<int64_t> place(index(groups_));  // [group]
  int64_t next = 0;
  for (const int64_t one : turn) {
    if (units_.empty()) place[index(one)] = next++;
    for (const int64_t group : units_.empty() ? std::vector<int64_t>{} : units_[index(one)].group)
      place[index(group)] = next++;
  }
  epoch_groups_ = 0;
  for (LoadPart& part : parts) {
    check<ConfigError>(part.times > 0, "an epoch goes through a part of the data ", part.times,
                       " times: it must be more than 0");
    std::sort(part.group.begin(), part.group.end(),
              [&](int64_t a, int64_t b) { return place[index(a)] < place[index(b)]; });
    epoch_groups_ += epoch_groups(part);
  }
  parts_ = std::move(parts);
}

/// [groups] how often each comes in the epoch. What is not whole goes round: an epoch goes on where the last one ended.
std::vector<int32_t> Loader::times(int64_t epoch) const {
  if (parts_.empty()) return std::vector<int32_t>(index(groups_), 1);
  std::vector<int32_t> times(index(groups_), 0);
  for (const LoadPart& part : parts_) {
    const int64_t count = std::ssize(part.group);
    if (count == 0) continue;
    const int64_t whole = epoch_groups(part) / count, more = epoch_groups(part) % count;
    for (const int64_t group : part.group) times[index(group)] += static_cast<int32_t>(whole);
    const int64_t first = epoch % count * more % count;
    for (int64_t i = 0; i < more; ++i) ++times[index(part.group[index((first + i) % count)])];
  }
  return times;
}

void Loader::order_groups(int64_t epoch) const {
  const std::vector<int32_t> times = this->times(epoch);
  order_.clear();
  for (int32_t round = 0; std::ssize(order_) < epoch_groups_; ++round)
    for (size_t group = 0; group < times.size(); ++group)
      if (times[group] > round) order_.push_back(static_cast<int64_t>(group));
  if (shuffle_) shuffle(order_, Rng(seed_, kLoaderStream + static_cast<uint64_t>(epoch)));
}

/// The units of an epoch, those of groups that come again behind the others. Copies of one are a cluster.
std::vector<LoadUnit> Loader::unit_copies(int64_t epoch) const {
  const std::vector<int32_t> times = this->times(epoch);
  std::vector<LoadUnit> copies;
  std::vector<size_t> unit_of;  // [copies]
  std::vector<int32_t> count(units_.size(), 0);
  int64_t there = 0, clusters = 0;
  for (int32_t round = 0; there < epoch_groups_; ++round)
    for (size_t unit = 0; unit < units_.size(); ++unit) {
      LoadUnit copy{.group = {}, .cluster = units_[unit].cluster};
      for (const int64_t group : units_[unit].group)
        if (times[index(group)] > round) copy.group.push_back(group);
      clusters = std::max(clusters, copy.cluster + 1);
      if (copy.group.empty()) continue;
      there += std::ssize(copy.group), ++count[unit];
      copies.push_back(std::move(copy)), unit_of.push_back(unit);
    }
  for (size_t i = 0; i < copies.size(); ++i)
    if (count[unit_of[i]] > 1 && copies[i].cluster < 0) copies[i].cluster = clusters + static_cast<int64_t>(unit_of[i]);
  return copies;
}

void Loader::order_units(int64_t epoch) const {
  const std::vector<LoadUnit> units = unit_copies(epoch);
  std::vector<int64_t> turn = iota(std::ssize(units));
  if (shuffle_) shuffle(turn, Rng(seed_, kLoaderStream + static_cast<uint64_t>(epoch)));
  Dealer dealer(epoch_groups_, groups_per_step_);
  std::map<int64_t, std::vector<int64_t>> of_cluster;
  for (const int64_t unit : turn)
    if (units[index(unit)].cluster >= 0) of_cluster[units[index(unit)].cluster].push_back(unit);
  std::vector<bool> is_dealt(units.size(), false);
  Rng rng(seed_, kLoaderStream + kOffsets + static_cast<uint64_t>(epoch));
  for (const auto& [cluster, members] : of_cluster) {
    const auto first = static_cast<int64_t>(rng.below(static_cast<uint64_t>(steps_per_epoch())));
    for (size_t i = 0; i < members.size(); ++i) {
      const auto after = static_cast<int64_t>(i) * steps_per_epoch() / std::ssize(members);
      is_dealt[index(members[i])] = dealer.deal(units[index(members[i])].group, first + after);
    }
  }
  for (const int64_t unit : turn)
    if (!is_dealt[index(unit)]) dealer.fill(units[index(unit)].group);
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
  const int64_t end = begin + std::min(groups_per_step_, epoch_groups_ - begin);
  return {order_.begin() + begin, order_.begin() + end};
}

Loader make_loader(const Dataset& dataset, const DataOptions& options, int64_t groups_per_step, uint64_t seed) {
  std::vector<LoadPart> parts = parts_of(dataset, options);
  if (options.batching == Batching::kPrefix) {
    const auto most = static_cast<int64_t>(options.max_cluster_share * static_cast<double>(groups_per_step));
    return {prefix_units(dataset, options.min_shared_tokens, std::max<int64_t>(1, most)), groups_per_step, seed,
            options.shuffle, std::move(parts)};
  }
  if (!dataset.unit.empty())
    return {equal_units(dataset.unit), groups_per_step, seed, options.shuffle, std::move(parts)};
  return {dataset.size(), groups_per_step, seed, options.shuffle, std::move(parts)};
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
