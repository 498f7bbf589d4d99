#pragma once
// plan: StageCosts from measured operation times, where FLOP counts are not what the machine takes. The times of a
// clock differ from run to run, so plans made with a fit repeat only from the file that it is stored in.

#include <cstdint>
#include <span>

#include "fpdist/plan/stage_costs.hpp"
#include "src/plan/costs/amount.hpp"

namespace fpdist::plan {

/// Kind of an operation that was timed; kBackward is input and weight gradient in one operation (every schedule but
/// kZeroBubble).
enum class TimedPass { kForward, kBackwardInput, kBackwardWeight, kBackward };

/// One timed operation of a unit on a run of layers.
struct TimedOp {
  TimedPass pass = TimedPass::kForward;
  int64_t layers = 0;
  bool has_head = false;
  Amount work;
  double seconds = 0;
};

/// Time of an operation by `costs`, in their unit.
int64_t units_of(const StageCosts& costs, const TimedOp& op);

struct CostFit {
  StageCosts costs;  ///< per_row, both pairs, per_edge and overhead_rows fitted, the rest as given
  double seconds_per_unit = 0;
  int64_t ops = 0;         ///< fitted to: those with rows and a positive time; 0: none, costs are the given ones
  double mean_error = 0;   ///< of the ops' predicted times, relative: a fit to every other op, asked for the others
  double worst_error = 0;  ///< the same, its largest
};

/// Least squares on relative errors with coefficients of 0 or more. What the ops cannot tell apart (all packs equal, no
/// edges, ...) keeps the proportions of `given`; the noisier they are, the more does. The largest coefficient becomes
/// 10^8 units, so that the others keep their digits. Not collective; deterministic in its arguments and their order.
CostFit fit_costs(std::span<const TimedOp> ops, const StageCosts& given);

}  // namespace fpdist::plan
