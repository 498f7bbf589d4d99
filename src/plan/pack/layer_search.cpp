#include "src/plan/pack/layer_search.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace fpdist::plan {

void improve_layers(PackProblem& problem, Pricer& pricer, std::vector<ReplicaDraft>& replicas) {
  // A pass takes as many simulations as there are runs, squared, a judge. The second one gains up to 0.7 % where it is
  // cheap (4 stages interleaved) and has gained nothing on 16 runs. Replicas are alike: three judge for all (one: up to
  // 0.5 % longer), one where there are many runs to try (more of them took what 16 runs had for the local search: 1.1 %
  // longer).
  constexpr size_t kManyRuns = 8, kSimulations = 256, kMostJudges = 3;
  std::vector<int64_t>& layers = problem.layers;
  const int most_passes = layers.size() > kManyRuns ? 1 : 2;
  const size_t judges = std::clamp<size_t>(kSimulations / (layers.size() * layers.size()), 1, kMostJudges);
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
