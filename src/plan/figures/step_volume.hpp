#pragma once
// plan: what a planned step holds in memory and what it moves between ranks, from the model's shape: sums to size a job
// by, in bytes. Biases and norms are left out, and so are allocators and what operations need for a moment.

#include <cstdint>
#include <vector>

#include "fpdist/arch/model.hpp"
#include "fpdist/core/mesh_shape.hpp"
#include "src/plan/figures/plan_figures.hpp"

namespace fpdist::plan {

struct ModelBytes {
  arch::ModelShape shape;
  int64_t value = 4;    ///< bytes of a weight or an activation
  int64_t trained = 4;  ///< bytes of an adapter's element
  int64_t sum = 4;      ///< bytes of a main gradient, a master weight, a moment
  bool recompute = false, has_reference = false, ties_embedding = false;
  /// Elements that are trained, over all layers, where the model's own weights are frozen; -1: these are trained.
  int64_t adapter = -1;
  double linear = 0;  ///< bytes of an element of the layers' matrices, where it is quantized; 0: as the others
};

/// Bytes on one rank of a stage. `optimizer`: its share of both moments, and of the masters where weights are smaller.
struct StageMemory {
  int64_t weights = 0, gradients = 0, optimizer = 0, activations = 0;
  int64_t total() const { return weights + gradients + optimizer + activations; }
};

/// Rows in flight on a stage, forward done and backward not.
struct KeptRows {
  int64_t row_layers = 0;  ///< each one times the layers that it went through
  int64_t unit_rows = 0;   ///< of the largest unit
};

/// Elements of weights on a rank.
struct HeldWeights {
  int64_t all = 0;
  int64_t quantized = 0;  ///< of them
};

/// Memory of a rank that holds `weights`, and, where these are frozen, its even part of the adapter besides.
/// Activations: the inputs of every operation of the layers of each row in flight (with recompute of the layers alone,
/// and of one layer of the largest unit besides), over cp * tp ranks.
StageMemory rank_memory(const ModelBytes& model, const MeshShape& mesh, const HeldWeights& weights,
                        const KeptRows& kept);

/// [pp] memory of a rank of each stage, in the replica that holds most.
std::vector<StageMemory> stage_memory(const ModelBytes& model, const MeshShape& mesh, const PipelinePlan& plan,
                                      const PlanFigures& figures);

/// Bytes that all ranks together send in one step.
struct StepTraffic {
  int64_t pipeline = 0;  ///< rows forward and their gradients back, between stages
  int64_t tensor = 0;    ///< gathers and sums of rows around every pair of linears
  int64_t data = 0;      ///< main gradients to their owners, weights back (dp * cp ranks)
};
StepTraffic step_traffic(const ModelBytes& model, const MeshShape& mesh, const PlanFigures& figures);

/// Elements that a layer keeps of a row for its backward: the inputs of every operation.
int64_t kept_elements(const arch::ModelShape& shape);

/// Elements of one layer's matrices.
int64_t layer_weights(const arch::ModelShape& shape);

}  // namespace fpdist::plan
