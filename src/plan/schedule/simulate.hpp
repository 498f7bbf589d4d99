#pragma once
// plan: event simulation of a pipeline. Each stage runs its op list in order; a receive holds its stage until the
// message is there (the moment it was sent, or began to be received, plus its link time); sends take no time.

#include <cstdint>
#include <span>
#include <vector>

#include "fpdist/plan/schedule.hpp"
#include "src/plan/costs/unit_cost.hpp"
#include "src/plan/schedule/timeline.hpp"

namespace fpdist::plan {

struct Simulation {
  int64_t makespan = 0;
  std::vector<int64_t> busy;  ///< [stages] time in operations
  /// Most rows on any stage whose forward has started and whose weight gradient has not ended; each of v runs' rows
  /// count 1/v, rounded up.
  int64_t peak_rows = 0;
  /// [stages] most rows on each stage, each times the layers of its run: what activations are kept for.
  std::vector<int64_t> peak_row_layers;
  std::vector<TimelineEvent> events;  ///< compute ops, times in cost units; only when asked for
};

/// Runs op lists (of pipeline_ops or forward_ops, messages included) where unit u costs `units[u]`, units numbered as
/// in PipelineShape, and run r has `layers[r]` layers. Backward and weight gradient are one operation except with
/// kZeroBubble. The lists must be valid (validate_ops).
Simulation simulate(const PipelineShape& shape, std::span<const std::vector<Op>> ops, std::span<const UnitCost> units,
                    std::span<const int64_t> layers, bool with_events = false);

}  // namespace fpdist::plan
