#pragma once
// plan: a pipeline's op lists flattened into one list in which every operation comes after those that it waits for, so
// that simulating a candidate is one pass. Made once for a shape, run for many costs.

#include <cstdint>
#include <span>
#include <vector>

#include "fpdist/plan/schedule.hpp"
#include "src/plan/costs/unit_cost.hpp"
#include "src/plan/schedule/compute_order.hpp"
#include "src/plan/schedule/simulate.hpp"

namespace fpdist::plan {

class Program {
 public:
  Program() = default;
  /// The program of the compute order of each stage.
  Program(const PipelineShape& shape, std::span<const std::vector<ComputeOp>> order);
  /// The program of a schedule's own order.
  explicit Program(const PipelineShape& shape);

  /// Makespan, in one pass; `layers` [stages * runs].
  int64_t makespan(std::span<const UnitCost> units, std::span<const int64_t> layers);

  /// Makespan with everything else that a simulation tells.
  Simulation simulate(std::span<const UnitCost> units, std::span<const int64_t> layers, bool with_events);

  /// Simulation::peak_rows and peak_row_layers: they depend on the order alone, not on costs.
  int64_t peak_rows(std::span<const UnitCost> units) const;
  std::vector<int64_t> peak_row_layers(std::span<const UnitCost> units, std::span<const int64_t> layers) const;

  int units() const { return units_; }
  size_t size() const { return step_.size(); }

 private:
  /// `after` and `slot` index `end_`: slot 0 is the start of time, slot 1 is read by nobody.
  struct Step {
    int32_t unit, after, slot;
    int16_t run, stage;
    int8_t pass;       ///< Pass
    bool with_weight;  ///< input and weight gradient in one operation
    bool is_last, is_remote;
  };
  template <typename Visit>
  int64_t pass_over(std::span<const UnitCost> units, std::span<const int64_t> layers, Visit visit);

  int stages_ = 1, runs_ = 1, units_ = 0;
  std::vector<Step> step_;
  std::vector<UnitRef> ref_;
  std::vector<int64_t> end_, stage_end_;
};

}  // namespace fpdist::plan
