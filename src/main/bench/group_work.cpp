#include "src/main/bench/group_work.hpp"

#include <vector>

#include "fpdist/plan/step_plan.hpp"
#include "fpdist/prefix/forest.hpp"

namespace fpdist::bench {

plan::Amount work_of(std::span<const data::Group> groups, bool share) {
  std::vector<prefix::TokenSpan> samples;
  int64_t edges = 0;
  for (const data::Group& group : groups)
    for (const data::Sample& sample : group.sample)
      samples.emplace_back(sample.token), edges += plan::count_edges(sample);
  const prefix::Forest forest = prefix::make_forest(samples, share);
  return {forest.tokens(), forest.visible_pairs(), edges};
}

}  // namespace fpdist::bench
