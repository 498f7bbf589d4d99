#pragma once
// plan: what the packer moves around, and the bins it puts it in. A bundle is a set of samples that stay together.
// Nodes that other bundles pass through too are computed once in a bin, however many of its bundles need them.

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "fpdist/plan/stage_costs.hpp"
#include "src/plan/pack/length_tree.hpp"
#include "src/plan/pack/ranking.hpp"

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

/// A set of samples, ascending, that is planned together: the nodes that several of them share have numbers of their
/// own. Memory and time follow from what they pass through, not from the tree.
class Scope {
 public:
  Scope(const LengthTree& tree, const StageCosts& costs, std::span<const int32_t> samples);
  Bundle bundle(std::vector<int32_t> samples);
  const std::vector<Weight>& shared() const { return shared_; }
  /// Work of the whole scope, every node once.
  const Weight& total() const { return total_; }

 private:
  struct ScopeNode {
    int32_t of_tree, parent, number, seen;  ///< parent: of this list, number: of shared_, -1: none
  };
  size_t place(int32_t sample) const;

  const LengthTree& tree_;
  const StageCosts& costs_;
  std::vector<int32_t> sample_, last_;  ///< and the node at which each ends
  std::vector<ScopeNode> node_;         ///< DFS pre-order
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
  /// First fit by rows in the order given.
  bool first_fit(std::span<const Bundle* const> bundles);
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
  /// A bin in which bundles use a shared node.
  struct Use {
    int32_t bin, users;
  };
  /// Where the holder of a node is, or would be.
  std::vector<Use>::iterator holder(int32_t node, size_t bin);
  int32_t users(int32_t node, size_t bin) const;
  std::span<const Use> some_holders(int32_t node) const;
  Weight added(const Bundle& bundle, size_t bin) const;
  Weight freed(const Bundle& bundle, size_t bin) const;
  int64_t excess(size_t bin) const { return load_[bin].cost - target_[bin]; }
  size_t roomiest(const Bundle& bundle) const;
  size_t first_with_room(const Bundle& bundle) const;
  void rank(size_t bin) { ranking_.set(bin, -excess(bin), load_[bin].rows); }
  bool move_one(size_t high, size_t low);
  bool swap_one(size_t high, size_t low);

  const std::vector<Weight>& shared_;
  std::vector<int64_t> target_;
  int64_t most_rows_;
  std::vector<Weight> load_;
  Ranking ranking_;                        ///< by what is left of the target
  std::vector<std::vector<Use>> holders_;  ///< [shared] by bin
  std::vector<std::vector<const Bundle*>> content_;
};

/// Bundles whose shared nodes are numbered among themselves: bins for a few of a scope's bundles are as few.
struct OwnNumbers {
  explicit OwnNumbers(const Scope& scope, std::vector<Bundle> bundles);
  std::vector<Bundle> bundle;
  std::vector<Weight> shared;
  std::vector<const Bundle*> pointers() const;
};

/// Sets of samples that stay together, split into bundles of like cost; what was split is kept.
class Splits {
 public:
  explicit Splits(std::vector<std::vector<int32_t>> atoms) : atoms_(std::move(atoms)) {}
  size_t atoms() const { return atoms_.size(); }
  const std::vector<std::vector<int32_t>>& atom() const { return atoms_; }
  /// At most `count` bundles.
  const std::vector<Bundle>& into(Scope& scope, size_t count);
  /// As few bundles as there are with none that exceeds `most` in either; one an atom where there are none such. Counts
  /// are tried from below, in ever longer steps after the first 64.
  const std::vector<Bundle>& within(Scope& scope, const Weight& most);

 private:
  std::vector<std::vector<int32_t>> atoms_;
  std::map<size_t, std::vector<Bundle>> split_;
};

/// a * b / c for non-negative numbers; what does not fit is the largest number.
int64_t scaled(int64_t a, int64_t b, int64_t c);

}  // namespace fpdist::plan
