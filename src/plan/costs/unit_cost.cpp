#include "src/plan/costs/unit_cost.hpp"

namespace fpdist::plan {

UnitCost unit_cost(const StageCosts& costs, const Amount& work) {
  const int64_t linear = costs.per_row * (work.rows + costs.overhead_rows), head = costs.per_edge * work.edges;
  const int64_t pairs = pairs_of(costs, work);
  const int64_t again = costs.recompute ? costs.per_row * work.rows + costs.forward_pair * pairs : 0;
  return {{linear + costs.forward_pair * pairs, linear + costs.backward_pair * pairs + again,
           part_of(linear, costs.weight_permille)},
          {head, head, part_of(head, costs.head_weight_permille)},
          work.rows,
          costs.per_link + costs.per_link_row * work.rows};
}

CostTable forward_cost(const StageCosts& costs) {
  return {.per_row = costs.layers * (costs.per_row + costs.forward_pair * costs.prefix_keys),
          .per_pair = costs.layers * costs.forward_pair,
          .per_edge = costs.per_edge,
          .per_pack = costs.layers * costs.per_row * costs.overhead_rows};
}

}  // namespace fpdist::plan
