#include "fpdist/plan/cost_model.hpp"

#include <cstdint>

namespace fpdist::plan {

CostTable cost_table(const ModelShape& shape) {
  const int64_t q_and_out = 2 * shape.hidden * shape.heads * shape.head_dim;
  const int64_t k_and_v = 2 * shape.hidden * shape.kv_heads * shape.head_dim;
  const int64_t mlp = 3 * shape.hidden * shape.intermediate;
  CostTable table;
  table.per_row = shape.layers * 2 * (q_and_out + k_and_v + mlp);
  table.per_pair = shape.layers * 4 * shape.heads * shape.head_dim;
  table.per_edge = 2 * shape.hidden * shape.vocab;
  return table;
}

StageCosts stage_costs(const ModelShape& shape, bool recompute) {
  const int64_t layers = shape.layers;
  const CostTable whole = cost_table(shape);
  StageCosts costs;
  costs.layers = layers;
  costs.per_row = whole.per_row / layers, costs.forward_pair = whole.per_pair / layers;
  costs.backward_pair = costs.forward_pair * 5 / 2;
  costs.per_edge = whole.per_edge;
  costs.recompute = recompute;
  return costs;
}

}  // namespace fpdist::plan
