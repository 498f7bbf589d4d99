#include "src/plan/figures/plan_figures.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "src/core/index.hpp"
#include "src/plan/schedule/program.hpp"

namespace fpdist::plan {
namespace {

/// What a stage does for one unit: forward, and backward with weight gradients, over the runs [0, runs).
struct StageTime {
  int64_t forward = 0, backward = 0;
};
StageTime time_on(const UnitCost& unit, const std::vector<int64_t>& layers, size_t stage, size_t stages, size_t runs) {
  StageTime time;
  for (size_t run = stage; run < stages * runs; run += stages) {
    const bool is_last = run + 1 == layers.size();
    time.forward += layers[run] * unit.layer[kForwardPass] + (is_last ? unit.head[kForwardPass] : 0);
    for (const Pass pass : {kInputPass, kWeightPass})
      time.backward += layers[run] * unit.layer[pass] + (is_last ? unit.head[pass] : 0);
  }
  return time;
}

/// max over stages of (cheapest way to reach it + its work + cheapest way back from it).
int64_t pipeline_bound(std::span<const UnitCost> units, const PlannerOptions& options,
                       const std::vector<int64_t>& layers) {
  const size_t stages = index(options.parallel.pp), runs = index(options.parallel.virtual_stages);
  int64_t bound = 0;
  std::vector<StageTime> path(units.size());
  for (size_t s = 0; s < stages; ++s) {
    int64_t reach = std::numeric_limits<int64_t>::max(), leave = reach, work = 0;
    for (size_t u = 0; u < units.size(); ++u) {
      const StageTime all = time_on(units[u], layers, s, stages, runs), first = time_on(units[u], layers, s, stages, 1);
      reach = std::min(reach, path[u].forward);
      leave = std::min(leave, path[u].backward);
      work += all.forward + all.backward;
      path[u].forward += first.forward;
      path[u].backward += first.backward;
    }
    if (units.empty()) continue;
    bound = std::max(bound, reach + work + (options.parallel.schedule == Schedule::kZeroBubble ? 0 : leave));
  }
  return bound;
}

double ratio(int64_t a, int64_t b) { return b ? static_cast<double>(a) / static_cast<double>(b) : 0; }

}  // namespace

int64_t lower_bound_of(const StageCosts& costs, const PlannerOptions& options, const PipelinePlan& plan) {
  const size_t stages = index(options.parallel.pp), runs = index(options.parallel.virtual_stages);
  std::vector<int64_t> work(stages);
  int64_t bound = 0;
  for (const PlannedReplica& replica : plan.replica) {
    const std::vector<UnitCost> units = unit_costs(costs, replica);
    bound = std::max(bound, pipeline_bound(units, options, plan.layers));
    for (const UnitCost& unit : units)
      for (size_t s = 0; s < stages; ++s) {
        const StageTime time = time_on(unit, plan.layers, s, stages, runs);
        work[s] += time.forward + time.backward;
      }
  }
  return std::max(bound, *std::max_element(work.begin(), work.end()) / options.replicas);
}

PlanFigures figures_of(const LengthTree& tree, const StageCosts& costs, const PlannerOptions& options,
                       const PipelinePlan& plan) {
  const int pp = options.parallel.pp, v = options.parallel.virtual_stages;
  PlanFigures figures;
  figures.step = plan.step;
  figures.ideal = total_work(costs, tree.unique()) / (options.replicas * pp);
  figures.bound = lower_bound_of(costs, options, plan);
  figures.stage_floor =
      static_cast<double>(imbalance_permille(layer_work(costs, tree.unique()), plan.layers, pp)) / 1000;
  figures.stage_busy.resize(index(pp)), figures.stage_peak_row_layers.resize(index(pp));
  int64_t busiest = 0, busy = 0, makespans = 0;
  for (const PlannedReplica& replica : plan.replica) {
    const std::vector<UnitCost> units = unit_costs(costs, replica);
    const Simulation run = Program(shape_of(options, replica)).simulate(units, plan.layers, false);
    busiest += *std::max_element(run.busy.begin(), run.busy.end());
    for (size_t s = 0; s < run.busy.size(); ++s) {
      busy += run.busy[s];
      figures.stage_busy[s] = std::max(figures.stage_busy[s], run.busy[s]);
      figures.stage_peak_row_layers[s] = std::max(figures.stage_peak_row_layers[s], run.peak_row_layers[s]);
    }
    makespans += run.makespan;
    figures.peak_tokens_in_flight = std::max(figures.peak_tokens_in_flight, run.peak_rows);
    figures.packs += static_cast<int64_t>(replica.pack.size());
    figures.units += static_cast<int64_t>(units.size());
    for (const UnitCost& unit : units) figures.tokens_computed += unit.rows;
  }
  figures.rows_sent = figures.tokens_computed * (pp > 1 ? pp * v - 1 : 0);
  figures.most_tokens_in_flight = most_rows_in_flight(options);
  figures.step_over_ideal = ratio(plan.step, figures.ideal);
  figures.bubble = 1 - ratio(busiest, options.replicas * plan.step);
  figures.idle = 1 - ratio(busy, options.replicas * pp * plan.step);
  figures.replica_imbalance = ratio(plan.step * options.replicas, makespans);
  figures.gap = ratio(plan.step, figures.bound) - 1;
  figures.sharing_ratio = ratio(tree.tokens_logical(), tree.unique().rows);
  figures.sharing_kept = ratio(tree.tokens_logical(), figures.tokens_computed);
  figures.fill = ratio(figures.tokens_computed, figures.packs * options.max_tokens);
  return figures;
}

}  // namespace fpdist::plan
