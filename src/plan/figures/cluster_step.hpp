#pragma once
// plan: what a step would take on a cluster that nobody has to own: computed by the cost model at the cluster's rates,
// messages of every axis by their bytes, ZeRO's gathers and reductions behind what the executor lets them overlap with.
// A prediction: no figure of it was measured.

#include <cstdint>
#include <string>
#include <vector>

#include "fpdist/core/mesh_shape.hpp"
#include "src/plan/costs/cluster.hpp"
#include "src/plan/figures/plan_figures.hpp"
#include "src/plan/figures/step_volume.hpp"

namespace fpdist::plan {

/// Where the seconds of a step go, on the busiest stage of the slowest replica. They add up to the step.
struct ClusterSeconds {
  double compute = 0;
  double bubble = 0;    ///< that stage waits for others to compute
  double tensor = 0;    ///< gathers and sums of rows over tp: nothing hides them
  double context = 0;   ///< keys and their gradients, where attention is too short to hide them, and heads
  double pipeline = 0;  ///< messages between stages
  double data = 0;      ///< gradients to their owners and weights back, beyond the backward and forward beside them
  double update = 0;    ///< the optimizer, bound by memory
  double all() const { return compute + bubble + tensor + context + pipeline + data + update; }
};

/// What binds: the part besides computing that takes the most, where it is more than a tenth of the step; "compute".
std::string largest_loss(const ClusterSeconds& seconds);

/// A model on a mesh of a cluster.
struct ClusterJob {
  Cluster cluster;
  ModelBytes model;  ///< its recompute counts
  MeshShape mesh;
  /// Of a pack, at most, where that is known: a rank is sent the keys of about twice as many rows as the mean row sees
  /// (a sequence of that length over all ranks: all), not of all.
  int64_t pack_rows = 0;
};

/// Costs for the planner, of all ranks of a stage together, tensor and context messages among them. `all`, here and
/// below: LengthTree::unique() of the step, asked for once where many meshes are compared. `overhead_rows` as
/// StageCosts has it.
StageCosts cluster_costs(const ClusterJob& job, const Amount& all, int64_t overhead_rows);
/// Ranks of the cp axis side by side that these costs let exchange heads (Ulysses) instead of keys: whichever of 1, 2,
/// 4, ... that divide cp and the KV heads of a tp rank leaves the least that attention does not hide.
int head_exchange(const ClusterJob& job, const Amount& all);
/// Seconds of a unit of these costs.
double unit_seconds(const ClusterJob& job);

/// Of a plan that was made with cluster_costs.
ClusterSeconds cluster_seconds(const ClusterJob& job, const Amount& all, int64_t overhead_rows,
                               const PlannerOptions& options, const PipelinePlan& plan);

/// No plan on this mesh is faster: everything once, evenly spread, with its messages, and the update.
double least_seconds(const ClusterJob& job, const Amount& all, int64_t overhead_rows);

/// Operations that a step needs, without what is computed again: forward and twice that backward.
double model_flops(const ModelBytes& model, const Amount& all);

/// The longest that sharing can make the same step without it: everything of every sample over every node once (the
/// bound of G completions of one prefix in figures).
double sharing_bound(const ModelBytes& model, const LengthTree& tree);

/// Bytes of the rank that holds most, the cluster's reserve included.
double cluster_memory(const ClusterJob& job, const PipelinePlan& plan, const PlanFigures& figures);
/// Of them weights, gradients, optimizer and reserve: what a mesh needs before any row.
double least_memory(const ClusterJob& job, const std::vector<int64_t>& layers);

}  // namespace fpdist::plan
