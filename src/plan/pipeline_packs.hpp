#pragma once
// plan: a step's samples through the pipeline planner.

#include <span>
#include <vector>

#include "fpdist/plan/step_plan.hpp"
#include "src/plan/units.hpp"

namespace fpdist::plan {

struct PipelinePacks {
  std::vector<std::vector<PackPlan>> replica;  ///< packs in order, with their slices
  std::vector<int> window;                     ///< [replicas]
};

/// Packs, order, slices and windows by simulated step time on `parallel`'s pipeline, whose layers are given.
/// Every sample (every group, where groups may not be torn) must fit into options.max_tokens rows.
PipelinePacks pack_for_pipeline(const StepForest& step, std::span<const data::Group> groups, bool may_tear,
                                const ParallelOptions& parallel, const StageCosts& costs, const PackOptions& options);

}  // namespace fpdist::plan
