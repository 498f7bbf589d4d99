#pragma once
// plan: what the packer moves around, and the bins it puts it in. A bundle is a set of samples that stay together.
// Nodes that other bundles pass through too are computed once in a bin, however many of its bundles need them.

#include <cstdint>
#include <span>
#include <vector>

#include "fpdist/plan/stage_costs.hpp"
#include "src/plan/pack/length_tree.hpp"

namespace fpdist::plan {

/// Work and what it costs in all passes on all layers.
struct Weight {
  int64_t rows = 0, cost = 0;
  Weight& operator+=(const Weight& other) { return rows += other.rows, cost += other.cost, *this; }
  Weight& operator-=(const Weight& other) { return rows -= other.rows, cost -= other.cost, *this; }
};

struct Bundle {
  std::vector<int32_t> sample;  ///< ascending
  std::vector<int32_t> shared;  ///< nodes of the scope that several of its samples pass through
  Weight own;                   ///< all other nodes, and the edges
  Weight alone;                 ///< in a bin of its own
};

/// A set of samples that is planned together: the nodes that several of them share have numbers of their own.
class Scope {
 public:
  Scope(const LengthTree& tree, const StageCosts& costs, std::span<const int32_t> samples);
  Bundle bundle(std::vector<int32_t> samples);
  const std::vector<Weight>& shared() const { return shared_; }
  /// Work of the whole scope, every node once.
  const Weight& total() const { return total_; }

 private:
  const LengthTree& tree_;
  const StageCosts& costs_;
  std::vector<int32_t> users_, number_, seen_;  ///< by node
  int32_t visit_ = 0;
  std::vector<Weight> shared_;
  Weight total_;
};

/// Bins with targets. All ties go to the lower index.
class Bins {
 public:
  Bins(const std::vector<Weight>& shared, std::vector<int64_t> targets, int64_t most_rows);

  /// Longest processing time first: the costliest bundle goes where the most of the target would be left. False when a
  /// bundle finds no bin with room. Source: Graham, "Bounds on multiprocessing timing anomalies" (1969).
  bool fill(std::span<const Bundle* const> bundles);
  /// First fit by rows, where the cap binds: the longest bundle goes to the first bin with room, targets or not.
  bool fill_by_rows(std::span<const Bundle* const> bundles);
  void clear();
  void add(const Bundle& bundle, size_t bin);
  void remove(const Bundle& bundle, size_t bin);
  /// Moves and swaps between the bins that are furthest above and below their targets until the gap no longer narrows.
  void refine(int rounds);

  const std::vector<Weight>& load() const { return load_; }
  /// [bins] the bundles of each, in the order in which they came.
  const std::vector<std::vector<const Bundle*>>& content() const { return content_; }
  std::vector<int32_t> samples(size_t bin) const;

 private:
  Weight added(const Bundle& bundle, size_t bin) const;
  Weight freed(const Bundle& bundle, size_t bin) const;
  int64_t excess(size_t bin) const { return load_[bin].cost - target_[bin]; }
  bool move_one(size_t high, size_t low);
  bool swap_one(size_t high, size_t low);

  const std::vector<Weight>& shared_;
  std::vector<int64_t> target_;
  int64_t most_rows_;
  std::vector<Weight> load_;
  std::vector<int32_t> users_;  ///< [bins][shared]
  std::vector<std::vector<const Bundle*>> content_;
};

/// Sets of samples that stay together, as at most `count` bundles of like cost.
std::vector<Bundle> split_evenly(Scope& scope, std::span<const std::vector<int32_t>> atoms, size_t count);

/// a * b / c for non-negative numbers; what does not fit is the largest number.
int64_t scaled(int64_t a, int64_t b, int64_t c);

}  // namespace fpdist::plan
