#pragma once
// plan: what every rank will do in one optimizer step. A pure function of (the step's samples, mesh, cost table):
// integers only, identical on every rank; the hash is compared before the step.

#include <cstdint>
#include <span>
#include <vector>

#include "fpdist/core/types.hpp"
#include "fpdist/data/sample.hpp"
#include "fpdist/plan/cost_model.hpp"
#include "fpdist/plan/length_tree.hpp"
#include "fpdist/plan/options.hpp"
#include "fpdist/plan/pipeline_plan.hpp"
#include "fpdist/plan/schedule.hpp"
#include "fpdist/prefix/tree_layout.hpp"

namespace fpdist::plan {

/// A sample of the step: `group` indexes the step's list of groups, `index` the sample in that group.
struct MemberRef {
  int32_t group, index;
  bool operator==(const MemberRef&) const = default;
};

/// One micro-batch.
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
  int64_t tokens_logical = 0;   ///< sum of sample lengths: what would be computed without sharing
  int64_t tokens_computed = 0;  ///< sum of pack rows
  double sharing_ratio() const { return tokens_computed ? double(tokens_logical) / double(tokens_computed) : 1.0; }
};

struct StepPlan {
  std::vector<std::vector<PackPlan>> replica;  ///< [dp][packs of that replica, in order]
  StepTotals totals;
  Schedule schedule = Schedule::k1F1B;
  int stages = 1, runs = 1;
  std::vector<int> window;  ///< [dp] forwards ahead of a backward, see PipelineShape
  uint64_t hash = 0;        ///< of everything above and of the context-parallel options

  /// How replica `d` goes through the pipeline.
  PipelineShape pipeline(int d) const;
};

/// Edges that a sample contributes: positions t >= 1 with target[t] != data::kIgnore.
int64_t count_edges(const data::Sample& sample);

/// The samples of a step as plan_pipeline takes them.
struct StepTree {
  LengthTree tree;                ///< a line for each group, called by Group::id
  std::vector<MemberRef> member;  ///< [tree.sample]
  std::vector<int64_t> edges;     ///< [tree.sample]
  std::vector<MemberRef> empty;   ///< samples without tokens, which the tree lacks
  StepTotals totals;              ///< tokens_computed is 0
};
/// `share` false: every sample is a root of its own. Edges count at a node where all samples that pass through it want
/// the same targets there; only where they differ are they counted for each of them.
StepTree make_step_tree(std::span<const data::Group> groups, bool share);

/// What a config's keys ask of plan_pipeline. Preference groups are never torn apart, packs are sliced on pipelines
/// only, empty packs may fill up what interleaving lacks.
PlannerOptions planner_options(Method method, const ParallelOptions& parallel, const PackOptions& options);

/// Plans one optimizer step over `parallel.dp` replicas: plan_pipeline's packs, order, slices and windows, by simulated
/// step time. A replica has no packs when there are fewer pieces than replicas; no pack is without rows unless the
/// whole step is, or interleaving needs a multiple of pp units. `costs`: of the model that will run. Not collective.
/// Throws ConfigError as plan_pipeline does.
StepPlan make_step_plan(std::span<const data::Group> groups, Method method, const ParallelOptions& parallel,
                        const StageCosts& costs, const PackOptions& options);

/// A pack's samples laid out as trees, `sample[b]` being `pack.member[b]`; `share` as the step was planned.
prefix::TreeLayout lay_out(std::span<const data::Group> groups, const PackPlan& pack, bool share);

}  // namespace fpdist::plan
