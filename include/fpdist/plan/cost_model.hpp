#pragma once
// plan: what a transformer's work costs, in integers.

#include <cstdint>

#include "fpdist/arch/model.hpp"
#include "fpdist/plan/stage_costs.hpp"

namespace fpdist::plan {

/// Floating point operations of one layer forward: 2 per weight and row, 4*heads*head_dim a pair; 2*hidden*vocab an
/// edge; attention's backward is 2.5 of its forward; the overhead is StageCosts' own.
StageCosts stage_costs(const arch::ModelShape& shape, bool recompute = false);

/// The forward of a whole pack: rows*per_row + pairs*per_pair + edges*per_edge + per_pack.
struct CostTable {
  int64_t per_row = 1, per_pair = 0, per_edge = 0, per_pack = 0;
  int64_t cost(int64_t rows, int64_t pairs, int64_t edges) const {
    return rows * per_row + pairs * per_pair + edges * per_edge + per_pack;
  }
};
CostTable forward_cost(const StageCosts& costs);

}  // namespace fpdist::plan
