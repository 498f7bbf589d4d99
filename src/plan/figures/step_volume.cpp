#include "src/plan/figures/step_volume.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "src/core/index.hpp"

namespace fpdist::plan {
namespace {

int64_t all_weights(const ModelBytes& model) {
  return model.shape.layers * layer_weights(model.shape) +
         (model.ties_embedding ? 1 : 2) * model.shape.hidden * model.shape.vocab;
}

int64_t largest_unit(const PipelinePlan& plan) {
  int64_t rows = 0;
  for (const PlannedReplica& replica : plan.replica)
    for (const PlannedPack& pack : replica.pack)
      for (const Amount& slice : pack.slice) rows = std::max(rows, slice.rows);
  return rows;
}

}  // namespace

int64_t kept_elements(const arch::ModelShape& shape) {
  const int64_t q = shape.heads * shape.head_dim, kv = shape.kv_heads * shape.head_dim;
  return 6 * shape.hidden + 4 * q + 3 * kv + 3 * shape.intermediate;
}

int64_t layer_weights(const arch::ModelShape& shape) {
  const int64_t q = shape.heads * shape.head_dim, kv = shape.kv_heads * shape.head_dim;
  return shape.hidden * (2 * q + 2 * kv + 3 * shape.intermediate);
}

StageMemory rank_memory(const ModelBytes& model, const MeshShape& mesh, const HeldWeights& weights,
                        const KeptRows& kept) {
  const bool is_frozen = model.adapter >= 0;
  const int64_t adapter = is_frozen ? model.adapter / (mesh.pp * mesh.tp) : 0,
                trained = is_frozen ? adapter : weights.all;
  const int64_t shard = trained / (mesh.dp * mesh.cp),
                states = (is_frozen ? model.trained : model.value) < model.sum ? 3 : 2;
  const int64_t layer = kept_elements(model.shape);
  int64_t elements = kept.row_layers * layer;
  if (model.recompute) elements = kept.row_layers * model.shape.hidden + kept.unit_rows * layer;
  const int64_t frozen = (weights.all - weights.quantized) * model.value +
                         static_cast<int64_t>(static_cast<double>(weights.quantized) * model.linear);
  return {.weights = frozen * (model.has_reference ? 2 : 1) + adapter * model.trained,
          .gradients = trained * model.sum,
          .optimizer = shard * model.sum * states,
          .activations = elements * model.value / (mesh.cp * mesh.tp)};
}

std::vector<StageMemory> stage_memory(const ModelBytes& model, const MeshShape& mesh, const PipelinePlan& plan,
                                      const PlanFigures& figures) {
  const auto stages = index(mesh.pp);
  const int64_t ends = model.shape.hidden * model.shape.vocab;
  std::vector<StageMemory> all(stages);
  for (size_t s = 0; s < stages; ++s) {
    int64_t weights = 0;
    for (size_t run = s; run < plan.layers.size(); run += stages) weights += plan.layers[run];
    weights *= layer_weights(model.shape);
    const int64_t quantized = model.linear > 0 ? weights / mesh.tp : 0;
    const bool is_first = s == 0, is_last = s + 1 == stages;
    weights += (is_first ? ends : 0) + (is_last && !(is_first && model.ties_embedding) ? ends : 0);
    all[s] = rank_memory(model, mesh, {.all = weights / mesh.tp, .quantized = quantized},
                         {.row_layers = figures.stage_peak_row_layers[s], .unit_rows = largest_unit(plan)});
  }
  return all;
}

StepTraffic step_traffic(const ModelBytes& model, const MeshShape& mesh, const PlanFigures& figures) {
  const int64_t row = model.shape.hidden * model.value, sharers = mesh.dp * mesh.cp;
  // Two gathers and two sums a layer, forward and backward (once more forward with recompute); one each at both ends.
  const int64_t exchanges = (model.recompute ? 12 : 8) * model.shape.layers + 4;
  return {.pipeline = 2 * figures.rows_sent * row,
          .tensor = exchanges * figures.tokens_computed * row * (mesh.tp - 1),
          .data = (sharers - 1) * (model.adapter >= 0 ? model.adapter * (model.sum + model.trained)
                                                      : all_weights(model) * (model.sum + model.value))};
}

}  // namespace fpdist::plan
