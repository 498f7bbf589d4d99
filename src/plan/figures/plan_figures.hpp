#pragma once
// plan: what a pipeline plan is worth, in the figures that the project reports everywhere.

#include <cstdint>
#include <vector>

#include "fpdist/plan/stage_costs.hpp"
#include "src/plan/pack/length_tree.hpp"
#include "src/plan/pack/pipeline_plan.hpp"

namespace fpdist::plan {

/// Figures of a plan. ideal = work of every node once, without overhead, over dp*pp. No plan is faster; it knows
/// neither bubbles nor overhead, copies or stage boundaries.
struct PlanFigures {
  double step_over_ideal = 0;
  double stage_floor = 0;        ///< busiest stage over mean stage for these layers: what no packing wins back
  double bubble = 0;             ///< 1 - busy time of each replica's busiest stage / (dp * step)
  double idle = 0;               ///< 1 - busy time of all stages / (dp * pp * step)
  double replica_imbalance = 0;  ///< slowest replica / mean
  double gap = 0;                ///< step / lower bound - 1
  double sharing_ratio = 0;      ///< tokens of all samples / unique tokens
  double sharing_kept = 0;       ///< tokens of all samples / rows of all packs
  double fill = 0;               ///< rows of all packs / (packs * max_tokens)
  int64_t packs = 0, units = 0;  ///< units: slices, or packs where they are whole
  int64_t tokens_computed = 0;   ///< rows of all packs
  int64_t peak_tokens_in_flight = 0, most_tokens_in_flight = 0;
  int64_t rows_sent = 0;  ///< by all stages of all replicas, rows forward; as many gradients back
  int64_t ideal = 0, step = 0, bound = 0;
  std::vector<int64_t> stage_busy;             ///< [pp] busiest replica
  std::vector<int64_t> stage_peak_row_layers;  ///< [pp] replica that holds most, see Simulation
};
PlanFigures figures_of(const LengthTree& tree, const StageCosts& costs, const PlannerOptions& options,
                       const PipelinePlan& plan);

/// Lower bound on the step for these packs and slices: the busiest stage's mean over replicas, and for each replica its
/// best fill, its busiest stage and its best drain.
int64_t lower_bound_of(const StageCosts& costs, const PlannerOptions& options, const PipelinePlan& plan);

}  // namespace fpdist::plan
