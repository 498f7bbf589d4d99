#pragma once
// plan: what a model's work costs on a pipeline stage, in integers, so that plans repeat bit for bit.
// A pack or slice of U rows, A visible (query, key) pairs and E edges, on a run of L layers, with o rows of overhead
// for every operation, `last` where the head is:
// (A, of a model with a trained prefix, with the pairs of its keys and all rows)
//   F = L*(per_row*(U+o) + forward_pair*A)  + [last] per_edge*E
//   B = L*(per_row*(U+o) + backward_pair*A) + [last] per_edge*E   (+ L*(per_row*U + forward_pair*A) with recompute)
//   W = L*(per_row*(U+o))*weight_permille/1000 + [last] per_edge*E*head_weight_permille/1000

#include <cstdint>

#include "fpdist/arch/model.hpp"

namespace fpdist::plan {

/// The defaults have the ratios of Llama-3-8B; the unit is half a (query, key) pair of one layer's attention forward.
struct StageCosts {
  int64_t layers = 32;
  int64_t per_row = 53200;  ///< linear work of a row in one layer
  int64_t forward_pair = 2, backward_pair = 5;
  int64_t per_edge = 128212;
  int64_t prefix_keys = 0;                 ///< that every row sees besides: each a pair of it in A
  int64_t overhead_rows = 256;             ///< o: what launching an operation costs, in rows
  int64_t per_link = 0, per_link_row = 0;  ///< of one message between stages
  /// What weight gradients cost of a forward, in thousandths: all of it where all weights are trained, next to nothing
  /// where the model's own are frozen.
  int64_t weight_permille = 1000, head_weight_permille = 1000;
  bool recompute = false;  ///< layers run forward again before they go backward
};

/// How many bytes (or any unit) one key row and one row of queries, keys, values and outputs weigh, for the choice
/// between methods: `key_bytes` = K and V of one row over all KV heads of a tp rank; `head_bytes` = Q, K, V and O.
struct CpCosts {
  int64_t key_bytes = 1, head_bytes = 4;
  int max_ulysses = 1;  ///< largest head split that the model allows (divides the KV heads of a tp rank)
};

/// Costs in floating point operations of one layer forward: 2 per weight and row, 4*heads*head_dim a pair;
/// 2*hidden*vocab an edge; attention's backward is 2.5 of its forward; overhead and links are StageCosts' own.
StageCosts stage_costs(const arch::ModelShape& shape, bool recompute = false);

/// The same where the model's own weights are frozen and low-rank products of `elements` elements over all layers are
/// trained beside them.
StageCosts with_frozen_weights(StageCosts counted, int64_t elements);

/// `permille` thousandths of a cost, rounded up.
inline int64_t part_of(int64_t cost, int64_t permille) {
  return cost / 1000 * permille + (cost % 1000 * permille + 999) / 1000;
}

}  // namespace fpdist::plan
