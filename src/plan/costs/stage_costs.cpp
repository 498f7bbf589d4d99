#include "fpdist/plan/stage_costs.hpp"

namespace fpdist::plan {

StageCosts stage_costs(const arch::ModelShape& shape, bool recompute) {
  const int64_t q_and_out = 2 * shape.hidden * shape.heads * shape.head_dim;
  const int64_t k_and_v = 2 * shape.hidden * shape.kv_heads * shape.head_dim;
  const int64_t mlp = 3 * shape.hidden * shape.intermediate;
  StageCosts costs;
  costs.layers = shape.layers;
  costs.per_row = 2 * (q_and_out + k_and_v + mlp);
  costs.forward_pair = 4 * shape.heads * shape.head_dim;
  costs.backward_pair = costs.forward_pair * 5 / 2;
  costs.per_edge = 2 * shape.hidden * shape.vocab;
  costs.recompute = recompute;
  return costs;
}

StageCosts with_frozen_weights(StageCosts counted, int64_t elements) {
  const int64_t products = 2 * elements / counted.layers;  // of a row in a layer
  counted.per_row += products;
  counted.weight_permille = (1000 * products + counted.per_row - 1) / counted.per_row;
  counted.head_weight_permille = 0;
  return counted;
}

}  // namespace fpdist::plan
