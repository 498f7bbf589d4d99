#pragma once
// plan: the cost of a pack in integers. cost = rows*per_row + pairs*per_pair + edges*per_edge + per_pack.

#include <cstdint>

#include "fpdist/plan/stage_costs.hpp"

namespace fpdist::plan {

/// Units are arbitrary but equal: only ratios matter. From a model's shapes: floating point operations of one forward.
struct CostTable {
  int64_t per_row = 1, per_pair = 0, per_edge = 0, per_pack = 0;
  int64_t cost(int64_t rows, int64_t pairs, int64_t edges) const {
    return rows * per_row + pairs * per_pair + edges * per_edge + per_pack;
  }
};

/// The numbers of a decoder-only transformer that decide its cost.
struct ModelShape {
  int64_t layers = 1, hidden = 1, intermediate = 1, heads = 1, kv_heads = 1, head_dim = 1, vocab = 1;
};

/// Forward FLOPs: 2 per weight and row, 4*heads*head_dim a pair and layer, 2*hidden*vocab an edge.
CostTable cost_table(const ModelShape& shape);

/// The same for pipelines: floating point operations of one layer; attention's backward is 2.5 of its forward.
StageCosts stage_costs(const ModelShape& shape, bool recompute);

}  // namespace fpdist::plan
