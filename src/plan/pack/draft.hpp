#pragma once
// plan: a replica's step while it is being planned, and what it would take.

#include <cstdint>
#include <limits>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "fpdist/plan/options.hpp"
#include "src/plan/costs/unit_cost.hpp"
#include "src/plan/pack/length_tree.hpp"
#include "src/plan/pack/slicer.hpp"
#include "src/plan/schedule/program.hpp"

namespace fpdist::plan {

/// What all replicas of a step have in common.
struct PackProblem {
  const LengthTree& tree;
  StageCosts costs;
  Schedule schedule;
  int stages, runs;
  int64_t most_rows, most_in_flight;  ///< in a pack, on a stage
  bool may_slice, fills_up;
  std::vector<int64_t> layers;      ///< [stages * runs]
  std::vector<int32_t> atom_of;     ///< [samples] those with the same number stay together
  std::vector<int32_t> cluster_of;  ///< [samples] those with the same number share most: a group
};

struct PackDraft {
  std::vector<int32_t> sample;  ///< ascending
  std::vector<int64_t> ends;    ///< [slices - 1] shares of the pack's cost at which all slices but the last end
  std::vector<Amount> work;     ///< [slices]
  std::vector<UnitCost> cost;   ///< [slices]
  int slices() const { return static_cast<int>(ends.size()) + 1; }
  int64_t rows() const;
};

constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

struct ReplicaDraft {
  std::vector<PackDraft> pack;
  int window = 1;
  int64_t makespan = kNever;
};

/// The largest number of slices of a pack: a window is 1 or this.
int longest(const ReplicaDraft& draft);

/// Prices drafts. Programs are kept: candidates of one shape differ in their costs only.
class Pricer {
 public:
  explicit Pricer(const PackProblem& problem) : problem_(problem), slicer_(problem.tree, problem.costs) {}

  /// Fills a pack's work and cost.
  void price(PackDraft& pack);
  /// Makespan of a draft of priced packs; kNever when it exceeds `most`, or when the shape or the rows in flight are
  /// not allowed.
  int64_t makespan(const ReplicaDraft& draft, int64_t most);
  /// Fewest rows in flight of the drafts refused for them since it was asked last; kNever: none was.
  int64_t take_rows_needed() { return std::exchange(rows_needed_, kNever); }
  PipelineShape shape(const ReplicaDraft& draft) const;
  /// Roughly the simulated operations so far (other work counted in them): what the search has cost.
  int64_t effort() const { return effort_; }
  void count(int64_t operations) { effort_ += operations; }

 private:
  Program& program(const ReplicaDraft& draft);

  const PackProblem& problem_;
  Slicer slicer_;
  std::map<std::vector<int>, Program> program_;  ///< by window and slices
  std::vector<int> key_;
  std::vector<UnitCost> units_;
  int64_t effort_ = 0, rows_needed_ = kNever;
};

}  // namespace fpdist::plan
