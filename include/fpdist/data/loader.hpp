#pragma once
// data: which groups are in a step. A pure function of (seed, epoch, step): never of the mesh.

#include <cstdint>
#include <span>
#include <vector>

#include "fpdist/data/reader.hpp"

namespace fpdist::data {

/// Keeps the newest epoch's order, so one Loader belongs to one thread.
class Loader {
 public:
  /// `groups` > 0 groups in the data set, `groups_per_step` > 0 of them in one optimizer step over all ranks;
  /// ConfigError otherwise. Epoch e's order is a permutation drawn from (seed, e), or file order without `shuffle`.
  Loader(int64_t groups, int64_t groups_per_step, uint64_t seed, bool shuffle);
  /// An epoch's last step may be short (Transformers' dataloader_drop_last = false).
  int64_t steps_per_epoch() const;
  /// Group ids of optimizer step `step` (0-based, any order of calls), in the order the plan breaks ties by.
  std::vector<int64_t> step(int64_t step) const;

 private:
  int64_t groups_, groups_per_step_;
  uint64_t seed_;
  bool shuffle_;
  mutable int64_t cached_epoch_ = -1;
  mutable std::vector<int64_t> order_;
};

/// Copies of the groups that Loader::step names, in that order.
std::vector<Group> pick_groups(const Dataset& dataset, std::span<const int64_t> ids);

}  // namespace fpdist::data
