#pragma once
// plan: the pipeline-aware prefix packer. Packs, their order, their slices and their replicas are chosen by simulated
// step time under the schedule that will run them. A pure function of lengths, mesh and costs; integers only.
// A group is kept whole, sliced, or torn with its ancestors computed again, whichever simulates shorter. Context
// parallelism is no fourth way: it is an axis of the mesh, and every pack is spread over it (see context_plan.hpp).

#include <cstdint>
#include <vector>

#include "fpdist/plan/options.hpp"
#include "fpdist/plan/schedule.hpp"
#include "src/plan/costs/unit_cost.hpp"
#include "src/plan/pack/length_tree.hpp"
#include "src/plan/schedule/simulate.hpp"

namespace fpdist::plan {

struct PlannerOptions {
  int replicas = 1;
  ParallelOptions parallel;   ///< pp, schedule, virtual_stages, layers
  int64_t max_tokens = 8192;  ///< most rows in a pack
  int64_t max_in_flight = 0;  ///< most rows in flight on a stage, see most_rows_in_flight; 0: what whole packs need
  bool may_slice = true;
  bool may_fill_up = false;  ///< where interleaving finds no multiple of pp units, empty packs make it up
  Atomic atomic = Atomic::kSamples;
  bool search_layers = true;  ///< when parallel.layers is empty: look for better stages than stage_layers gives
  int64_t effort = 1;         ///< multiplies the local search, 0: none
  int64_t thrift = 1;         ///< divides the budget of all search
};

/// One pack (micro-batch) of a replica.
struct PlannedPack {
  std::vector<int32_t> sample;  ///< ascending
  std::vector<Amount> slice;    ///< at least one: runs of its rows in DFS pre-order of its samples
};

struct PlannedReplica {
  int window = 1;
  std::vector<PlannedPack> pack;  ///< in order
  int64_t makespan = 0;
};

struct PipelinePlan {
  std::vector<int64_t> layers;  ///< [pp * virtual_stages] in model order
  std::vector<PlannedReplica> replica;
  int64_t step = 0;    ///< slowest replica, cost units
  int64_t effort = 0;  ///< simulated operations
  int64_t budget = 0;  ///< of them, after which the search ends: it grows with the samples
};

/// Plans a step. Not collective; a pure function.
/// Throws ConfigError with the smallest change that works: when a sample (or a line that may not be torn) has more rows
/// than max_tokens (the line and the rows it needs), when no packs keep to max_in_flight (the rows that would do), when
/// interleaving finds no multiple of pp units (the largest pp that does), and as stage_layers does.
PipelinePlan plan_pipeline(const LengthTree& tree, const StageCosts& costs, const PlannerOptions& options);

/// Rows in flight on a stage (from their forward to their weight gradient; with v runs each counts 1/v), the limit
/// that every plan keeps: max_in_flight, or what whole packs of max_tokens would need if that is less: pp * max_tokens,
/// with interleaving ((v-1)*pp + 2*(pp-1) + 1) / v * max_tokens, rounded up.
int64_t most_rows_in_flight(const PlannerOptions& options);

/// The max_in_flight with which there is a plan; 0: the one that `options` have. Nothing is searched for. Throws as
/// plan_pipeline does where something else stands in the way.
int64_t in_flight_needed(const LengthTree& tree, const StageCosts& costs, PlannerOptions options);

/// Of what the plan says: the same plan has the same hash on every machine.
uint64_t hash_of(const PipelinePlan& plan);

/// The shape whose op lists a planned replica runs, and what its units cost.
PipelineShape shape_of(const PlannerOptions& options, const PlannedReplica& replica);
std::vector<UnitCost> unit_costs(const StageCosts& costs, const PlannedReplica& replica);

}  // namespace fpdist::plan
