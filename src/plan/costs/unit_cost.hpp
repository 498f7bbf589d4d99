#pragma once
// plan: what a unit (a pack or a slice) costs, by the sums of stage_costs.hpp.

#include <array>
#include <cstdint>

#include "fpdist/plan/stage_costs.hpp"
#include "src/plan/costs/amount.hpp"
#include "src/plan/costs/stage_layers.hpp"

namespace fpdist::plan {

/// Index of an operation in UnitCost.
enum Pass { kForwardPass = 0, kInputPass = 1, kWeightPass = 2 };

/// Cost of one unit: a run of L layers takes L*layer[pass], plus head[pass] if it is the last.
struct UnitCost {
  std::array<int64_t, 3> layer{}, head{};
  int64_t rows = 0;
  int64_t link = 0;  ///< time of a message with its rows or their gradients
};

/// Of rows and keys, those of a prefix as well.
inline int64_t pairs_of(const StageCosts& costs, const Amount& work) {
  return work.pairs + costs.prefix_keys * work.rows;
}

UnitCost unit_cost(const StageCosts& costs, const Amount& work);

/// Layers and head of one step for the choice of stage_layers; all passes, without overhead and links.
inline LayerWork layer_work(const StageCosts& costs, const Amount& work) {
  const int64_t linear = costs.per_row * work.rows, pairs = pairs_of(costs, work);
  const int64_t forward = linear + costs.forward_pair * pairs;
  const int64_t backward = linear + part_of(linear, costs.weight_permille) + costs.backward_pair * pairs;
  return {costs.layers, forward * (costs.recompute ? 2 : 1) + backward, 0,
          part_of(costs.per_edge * work.edges, 2000 + costs.head_weight_permille)};
}

/// What all operations of a unit cost before its first row.
inline int64_t overhead_work(const StageCosts& costs) {
  return costs.layers * part_of(costs.per_row * costs.overhead_rows, 2000 + costs.weight_permille);
}

/// All layers and the head together, all passes: what must be computed at least.
inline int64_t total_work(const StageCosts& costs, const Amount& work) {
  const LayerWork parts = layer_work(costs, work);
  return parts.layers * parts.layer + parts.head;
}

/// The forward of a whole pack: rows*per_row + pairs*per_pair + edges*per_edge + per_pack.
struct CostTable {
  int64_t per_row = 1, per_pair = 0, per_edge = 0, per_pack = 0;
  int64_t cost(int64_t rows, int64_t pairs, int64_t edges) const {
    return rows * per_row + pairs * per_pair + edges * per_edge + per_pack;
  }
};
CostTable forward_cost(const StageCosts& costs);

}  // namespace fpdist::plan
