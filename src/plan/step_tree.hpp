#pragma once
// plan: a step's samples as the packer takes them. The step's forest is built here and nowhere else.

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "fpdist/data/sample.hpp"
#include "fpdist/plan/step_plan.hpp"
#include "src/plan/pack/length_tree.hpp"
#include "src/plan/pack/pipeline_plan.hpp"

namespace fpdist::plan {

/// Edges that a sample contributes with its tokens [from, to): positions t >= 1 with target[t] != data::kIgnore (a
/// sample's first token is predicted from nowhere).
int64_t count_edges(const data::Sample& sample, int64_t from = 0, int64_t to = std::numeric_limits<int64_t>::max());

/// Counts of the step but tokens_computed and tokens_unique, which sharing decides.
StepTotals count_totals(std::span<const data::Group> groups);

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

/// What a config's keys ask of plan_pipeline: packs are sliced on pipelines only, empty packs may fill up what
/// interleaving lacks.
PlannerOptions planner_options(Atomic atomic, const ParallelOptions& parallel, const PackOptions& options);

/// make_step_plan of the groups that `step` was made of, with options.share_prefix.
StepPlan make_step_plan(const StepTree& step, Atomic atomic, const ParallelOptions& parallel, const StageCosts& costs,
                        const PackOptions& options);

}  // namespace fpdist::plan
