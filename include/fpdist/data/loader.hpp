#pragma once
// data: which groups are in a step. A pure function of (seed, epoch, step): never of the mesh.

#include <cstdint>
#include <span>
#include <vector>

#include "fpdist/data/reader.hpp"

namespace fpdist::data {

/// Groups that a loader hands out one behind the other.
struct LoadUnit {
  std::vector<int64_t> group;
  int64_t cluster = -1;  ///< units of one cluster, which is too large for a step, are spread over the epoch; -1: none
};

/// Groups that an epoch goes through `times` times: 2 is each of them twice, 0.5 half of them.
struct LoadPart {
  std::vector<int64_t> group;
  double times = 1;
};

/// Keeps the newest epoch's order, so one Loader belongs to one thread.
class Loader {
 public:
  /// `groups` > 0 groups in the data set, `groups_per_step` > 0 of them in one optimizer step over all ranks;
  /// ConfigError otherwise. Epoch e's order is a permutation drawn from (seed, e), or file order without `shuffle`.
  /// With `parts` an epoch goes through each one's groups so many times and through no others. All epochs are of one
  /// length; k of them hold each group k * times times, rounded down or up: what one leaves out comes in the next.
  Loader(int64_t groups, int64_t groups_per_step, uint64_t seed, bool shuffle, std::vector<LoadPart> parts = {});
  /// The same of units, which are shuffled as groups are; a unit at the end of a step may go on in the next. Units of
  /// one cluster are dealt evenly over the epoch's steps, and so are the copies of a unit that comes more than once.
  Loader(std::vector<LoadUnit> units, int64_t groups_per_step, uint64_t seed, bool shuffle,
         std::vector<LoadPart> parts = {});
  /// An epoch's last step may be short (Transformers' dataloader_drop_last = false).
  int64_t steps_per_epoch() const;
  /// Group ids of optimizer step `step` (0-based, any order of calls), in the order the plan breaks ties by.
  std::vector<int64_t> step(int64_t step) const;

 private:
  void set_parts(std::vector<LoadPart> parts);
  std::vector<int32_t> times(int64_t epoch) const;
  std::vector<LoadUnit> unit_copies(int64_t epoch) const;
  void order_groups(int64_t epoch) const;
  void order_units(int64_t epoch) const;
  int64_t groups_, groups_per_step_;
  uint64_t seed_;
  bool shuffle_;
  int64_t epoch_groups_;
  std::vector<LoadUnit> units_;  // empty: each group by itself
  std::vector<LoadPart> parts_;  // empty: every group once; their groups stand in the order that epochs draw from
  mutable int64_t cached_epoch_ = -1;
  mutable std::vector<int64_t> order_;
};

/// The loader that data.group_by and data.batching ask for.
Loader make_loader(const Dataset& dataset, const DataOptions& options, int64_t groups_per_step, uint64_t seed);

/// Tokens of a step's samples over the tokens that a trie of them holds: what a step can share at most; the mean of an
/// epoch's first steps, 16 at most.
double step_sharing(const Dataset& dataset, const Loader& loader);

/// Copies of the groups that Loader::step names, in that order.
std::vector<Group> pick_groups(const Dataset& dataset, std::span<const int64_t> ids);

}  // namespace fpdist::data
