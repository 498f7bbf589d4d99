#pragma once
// plan: how others pack, priced by the same simulator, to set beside ours.

#include <cstdint>

#include "fpdist/plan/stage_costs.hpp"
#include "src/plan/pack/length_tree.hpp"
#include "src/plan/pack/pipeline_plan.hpp"

namespace fpdist::plan {

enum class Baseline {
  kGroupFirstFit,  ///< groups by tokens, first fit decreasing to the cap; packs dealt by cost, small ones at both ends
  kReplicaFirstFit,  ///< groups dealt in turn, first fit in file order on each replica, packs as they came
  kUnshared          ///< every sample with its whole path, first fit decreasing; dealt and ordered as the first
};

struct BaselineResult {
  int64_t cap = 0;   ///< rows in a pack
  int64_t step = 0;  ///< cost units; 0 when nothing fits
};

/// Step time of a baseline at `cap` rows a pack. Groups above the cap are torn at their samples. Where interleaving
/// needs a multiple of pp packs, empty ones fill up. `layers` [pp * virtual_stages].
BaselineResult price_baseline(Baseline kind, const LengthTree& tree, const StageCosts& costs,
                              const PlannerOptions& options, const std::vector<int64_t>& layers, int64_t cap);

/// Step time of a baseline at the best of caps from options.max_tokens down to the longest sample, each `percent` of
/// the one before.
BaselineResult best_baseline(Baseline kind, const LengthTree& tree, const StageCosts& costs,
                             const PlannerOptions& options, const std::vector<int64_t>& layers, int64_t percent = 84);

}  // namespace fpdist::plan
