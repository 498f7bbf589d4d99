#pragma once
// plan: what a unit (a pack or a slice) costs on a pipeline stage, in integers, so that plans repeat bit for bit.
// On a run of L layers, with o rows of overhead for every operation, `last` where the head is:
//   F = L*(per_row*(U+o) + forward_pair*A)  + [last] per_edge*E
//   B = L*(per_row*(U+o) + backward_pair*A) + [last] per_edge*E   (+ L*(per_row*U + forward_pair*A) with recompute)
//   W = L*(per_row*(U+o))                   + [last] per_edge*E

#include <array>
#include <cstdint>

#include "fpdist/plan/amount.hpp"
#include "fpdist/plan/stage_layers.hpp"

namespace fpdist::plan {

/// The defaults have the ratios of Llama-3-8B; the unit is half a (query, key) pair of one layer's attention forward.
struct StageCosts {
  int64_t layers = 32;
  int64_t per_row = 53200;  ///< linear work of a row in one layer
  int64_t forward_pair = 2, backward_pair = 5;
  int64_t per_edge = 128212;
  int64_t overhead_rows = 256;             ///< o: what launching an operation costs, in rows
  int64_t per_link = 0, per_link_row = 0;  ///< of one message between stages
  bool recompute = false;                  ///< layers run forward again before they go backward
};

/// Index of an operation in UnitCost.
enum Pass { kForwardPass = 0, kInputPass = 1, kWeightPass = 2 };

/// Of one unit: a run of L layers costs L*layer[pass], plus head[pass] if it is the last.
struct UnitCost {
  std::array<int64_t, 3> layer{}, head{};
  int64_t rows = 0;
  int64_t link = 0;  ///< time of a message with its rows or their gradients
};

UnitCost unit_cost(const StageCosts& costs, const Amount& work);

/// Layers and head of one step for the choice of stage_layers; all passes, without overhead and links.
inline LayerWork layer_work(const StageCosts& costs, const Amount& work) {
  const int64_t forward = costs.per_row * work.rows + costs.forward_pair * work.pairs;
  const int64_t backward = 2 * costs.per_row * work.rows + costs.backward_pair * work.pairs;
  return {costs.layers, forward * (costs.recompute ? 2 : 1) + backward, 0, 3 * costs.per_edge * work.edges};
}

/// The same for all layers and the head together: what must be computed at least.
inline int64_t total_work(const StageCosts& costs, const Amount& work) {
  const LayerWork parts = layer_work(costs, work);
  return parts.layers * parts.layer + parts.head;
}

}  // namespace fpdist::plan
