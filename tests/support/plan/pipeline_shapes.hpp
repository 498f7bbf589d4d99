#pragma once
// Tests: pipelines and what goes through them.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "fpdist/core/rng.hpp"
#include "fpdist/plan/schedule.hpp"

namespace fpdist::test {

/// `m` packs, none of them sliced, through `p` stages of `v` runs of layers each.
inline plan::PipelineShape whole_packs(plan::Schedule schedule, int p, int m, int v = 1) {
  return {schedule, p, v, std::vector<int>(static_cast<size_t>(m), 1), 1};
}

struct ShapeLimits {
  int stages, runs, packs;
  int slices;  ///< of a pack; 0: twice the stages, and two
};

/// Sliced packs; every schedule, windows of one unit and of the longest pack.
inline plan::PipelineShape random_shape(Rng& rng, const ShapeLimits& most) {
  const auto draw = [&](int limit) { return static_cast<int>(1 + rng.below(static_cast<uint64_t>(limit))); };
  plan::PipelineShape shape;
  shape.schedule = static_cast<plan::Schedule>(rng.below(3));
  shape.stages = draw(most.stages);
  shape.runs = shape.schedule == plan::Schedule::kInterleaved ? draw(most.runs) : 1;
  int units = 0, longest = 1;
  for (int pack = draw(most.packs); pack > 0; --pack) {
    shape.slices.push_back(draw(most.slices ? most.slices : 2 * shape.stages + 2));
    units += shape.slices.back();
  }
  if (shape.schedule == plan::Schedule::kInterleaved)
    shape.slices.back() += (shape.stages - units % shape.stages) % shape.stages;
  for (const int slices : shape.slices) longest = std::max(longest, slices);
  shape.window = rng.below(2) ? 1 : longest;
  return shape;
}

}  // namespace fpdist::test
