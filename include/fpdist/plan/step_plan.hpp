#pragma once
// plan: what every rank will do in one optimizer step. A pure function of (the step's samples, mesh, cost table):
// integers only, identical on every rank; the hash is compared before the step.

#include <cstdint>
#include <span>
#include <vector>

#include "fpdist/data/sample.hpp"
#include "fpdist/plan/options.hpp"
#include "fpdist/plan/schedule.hpp"
#include "fpdist/plan/stage_costs.hpp"
#include "fpdist/prefix/tree_layout.hpp"

namespace fpdist::plan {

/// A sample of the step: `group` indexes the step's list of groups, `index` the sample in that group.
struct MemberRef {
  int32_t group, index;
  bool operator==(const MemberRef&) const = default;
};

/// One pack (micro-batch) of a replica.
struct PackPlan {
  std::vector<MemberRef> member;  ///< by group, then index
  int64_t rows = 0;               ///< T of its layout
  int64_t pairs = 0;              ///< visible (query, key) pairs
  int64_t edges = 0;
  int64_t scores = 0;  ///< uses of the head: edges, those that samples share (row and target alike) once
  int64_t cost = 0;    ///< cost-table units of its rows, pairs and scores
  /// Rows at which its slices end, ascending; the last one is `rows`. One entry: the pack travels whole.
  std::vector<int32_t> slice_end;
};

/// Global normalisers of the step (invariant: one normaliser, known from the plan).
struct StepTotals {
  int64_t groups = 0, samples = 0, edges = 0;
  int64_t samples_with_edges = 0;
  int64_t first_edges = 0;      ///< of each group's first sample: of chosen answers, in pairs
  int64_t wanted = 0;           ///< samples whose reward is above 0
  int64_t tokens_logical = 0;   ///< sum of sample lengths: what would be computed without sharing
  int64_t tokens_computed = 0;  ///< sum of pack rows
  int64_t tokens_unique = 0;    ///< rows of one pack of all samples, sharing on whatever the options: the fewest
  double sharing_ratio() const { return tokens_computed ? double(tokens_logical) / double(tokens_computed) : 1.0; }
};

struct StepPlan {
  std::vector<std::vector<PackPlan>> replica;  ///< [dp][packs of that replica, in order]
  StepTotals totals;
  Schedule schedule = Schedule::k1F1B;
  int stages = 1, runs = 1;
  std::vector<int> window;  ///< [dp] forwards ahead of a backward, see PipelineShape
  uint64_t hash = 0;        ///< of packs, order and totals (but first_edges, wanted and tokens_unique) and of the
                            ///< context-parallel options

  /// How replica `d` goes through the pipeline.
  PipelineShape pipeline(int d) const;
};

/// Plans one optimizer step over `parallel.dp` replicas: packs, their order, slices and windows, by simulated step
/// time. What `atomic` says is never torn apart. A replica has no packs when there is less to deal than replicas; no
/// pack is without rows unless the whole step is, or interleaving needs a multiple of pp units. `costs`: of the model
/// that will run. Not collective. Throws ConfigError with the smallest change that works: when a sample (or a group
/// that may not be torn) has more rows than max_tokens (the group and the rows it needs), when no packs keep to
/// max_in_flight (the rows that would do), and when parallel.layers or pp do not fit the model's layers.
StepPlan make_step_plan(std::span<const data::Group> groups, Atomic atomic, const ParallelOptions& parallel,
                        const StageCosts& costs, const PackOptions& options);

/// A pack's samples laid out as trees, `sample[b]` being `pack.member[b]`; `share` as the step was planned.
prefix::TreeLayout lay_out(std::span<const data::Group> groups, const PackPlan& pack, bool share);

}  // namespace fpdist::plan
