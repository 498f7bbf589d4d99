#include "src/plan/pack/layer_search.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace fpdist::plan {

void improve_layers(PackProblem& problem, Pricer& pricer, std::vector<ReplicaDraft>& replicas) {
  const int most_passes = problem.layers.size() > 8 ? 1 : 2;  // a pass is as many runs squared simulations
  // Replicas are alike: a few of them judge for all, one where there are many runs to try.
  std::vector<int64_t>& layers = problem.layers;
  const size_t judges = std::clamp<size_t>(256 / (layers.size() * layers.size()), 1, 3);
  const size_t stride = (replicas.size() + judges - 1) / judges;
  const auto price = [&] {
    int64_t sum = 0;
    for (size_t r = 0; r < replicas.size(); r += stride)
      if (!replicas[r].pack.empty()) sum += pricer.makespan(replicas[r], kNever - 1);
    return sum;
  };
  int64_t best = price();
  for (int pass = 0; pass < most_passes; ++pass) {
    bool improved = false;
    for (size_t from = 0; from < layers.size(); ++from) {
      const int64_t least = from + 1 < layers.size() ? 1 : 0;
      for (size_t to = 0; to < layers.size() && layers[from] > least; ++to) {
        if (to == from) continue;
        --layers[from], ++layers[to];
        const int64_t sum = price();
        if (sum < best) {
          best = sum;
          improved = true;
        } else {
          ++layers[from], --layers[to];
        }
      }
    }
    if (!improved) break;
  }
  for (ReplicaDraft& replica : replicas)
    if (!replica.pack.empty()) replica.makespan = pricer.makespan(replica, kNever - 1);
}

}  // namespace fpdist::plan
