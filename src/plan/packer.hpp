#pragma once
// plan: units to replicas and packs. Longest processing time first on marginal cost (what a unit adds where its shared
// nodes may lie already), then moves and swaps between the most and the least loaded replica. Integers only; every tie
// goes to the lower index, so that all ranks find the same packs. Source: Graham, "Bounds on multiprocessing timing
// anomalies" (SIAM J. Appl. Math. 1969).

#include <cstdint>
#include <vector>

#include "fpdist/plan/cost_model.hpp"
#include "src/plan/units.hpp"

namespace fpdist::plan {

struct PackedUnits {
  std::vector<int32_t> unit;
  Work work;
  std::vector<int32_t> users;  ///< [shared nodes] units of this pack that pass through
};

struct Packing {
  std::vector<std::vector<PackedUnits>> replica;  ///< packs without units may be among them: cost nothing
  std::vector<int64_t> load;                      ///< [replica]
  int64_t max_load() const;
  int64_t packs() const;  ///< with units
  /// max over mean of the loads is above (100 + percent) / 100
  bool is_unbalanced_by(int64_t percent) const;
};

/// Every unit's `alone.rows` must be at most `max_tokens`.
Packing pack_units(const UnitSet& units, int replicas, const CostTable& costs, int64_t max_tokens);

}  // namespace fpdist::plan
