#pragma once
// plan: which layers each pipeline stage holds. Run c*pp + s of the model is run c of stage s (see schedule.hpp).

#include <cstdint>
#include <vector>

#include "fpdist/plan/options.hpp"

namespace fpdist::plan {

/// What the parts of a model cost in one step, any unit. The embedding is work of the first run of layers, the head of
/// the last one; 0 where they are free.
struct LayerWork {
  int64_t layers = 1;  ///< of the model
  int64_t layer = 1;   ///< one layer, forward and backward
  int64_t embedding = 0, head = 0;
};

/// [pp * virtual_stages] layers of each run, in model order: `options.layers` as given, else by cost. By cost: the last
/// run gets l layers (at most layers / runs), every other one at least one and the rest one at a time to the least
/// loaded stage (ties: the earlier stage, then its run with fewer layers); of all l the one with the least busy busiest
/// stage, then the smallest sum of squares over runs. The last run may be left with the head alone.
/// Throws ConfigError naming parallel.layers when the list has another length or sum, or a run before the last without
/// a layer, and when there are more runs than layers.
std::vector<int64_t> stage_layers(const LayerWork& work, const ParallelOptions& options);

/// Work of the busiest stage over the mean, in thousandths (1000: even), for `layers` as stage_layers returns them.
int64_t imbalance_permille(const LayerWork& work, const std::vector<int64_t>& layers, int stages);

}  // namespace fpdist::plan
