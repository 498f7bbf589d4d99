// From a candidate, a handful of numbers, to the packs that follow from them.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <tuple>
#include <vector>

#include "src/core/index.hpp"
#include "src/plan/pack/deal.hpp"
#include "src/plan/pack/replica_search.hpp"

namespace fpdist::plan {
namespace {

constexpr int64_t kFullSize = 1 << 10;  // only ratios of sizes count: 2^8 to 2^16 make no difference

/// Wanted size of unit `u` of `n`: small at both ends, where the pipeline fills and drains.
int64_t size_of_unit(const Candidate& candidate, int u, int n) {
  return std::min({kFullSize, kFullSize * (u + 1) / (candidate.front + 1), kFullSize * (n - u) / (candidate.back + 1)});
}

/// Units that each pack gets, at least one, by highest cost per unit.
std::vector<int> hand_out(int units, std::span<const int64_t> cost) {
  std::vector<int> count(cost.size(), 1);
  for (int left = units - static_cast<int>(cost.size()); left > 0; --left) {
    size_t best = 0;
    for (size_t i = 1; i < cost.size(); ++i)
      if (cost[i] / count[i] > cost[best] / count[best]) best = i;
    ++count[best];
  }
  return count;
}

/// Positions from the smallest wanted size to the largest; of equal ones those nearer to an end first.
std::vector<size_t> by_size(const std::vector<int64_t>& target) {
  std::vector<size_t> position(target.size());
  std::iota(position.begin(), position.end(), size_t{0});
  std::sort(position.begin(), position.end(), [&](size_t a, size_t b) {
    const auto key = [&](size_t i) { return std::tuple(target[i], std::min(i, target.size() - 1 - i), i); };
    return key(a) < key(b);
  });
  return position;
}

}  // namespace

std::vector<const Bundle*> ReplicaSearch::bundles(int64_t most_cost) {
  std::vector<const Bundle*> all;
  for (Splits& cluster : cluster_)
    for (const Bundle& bundle : cluster.within(scope_, {problem_.most_rows, most_cost})) all.push_back(&bundle);
  return all;
}

ReplicaDraft ReplicaSearch::build(const Candidate& candidate, int64_t most) {
  ReplicaDraft draft;
  std::vector<int64_t> target(index(candidate.packs));
  int64_t sizes = 0;
  for (int u = 0; u < candidate.units; ++u) {
    const int64_t size = size_of_unit(candidate, u, candidate.units);
    target[index(int64_t{u} * candidate.packs / candidate.units)] += size;
    sizes += size;
  }
  for (int64_t& one : target) one = scaled(scope_.total().cost, one, sizes);

  Bins bins(scope_.shared(), target, problem_.most_rows);
  const int64_t mean = scope_.total().cost / candidate.packs;
  const std::vector<const Bundle*> parts = bundles(scaled(mean, kSlack[index(candidate.slack)], 100));
  // Every bundle looks at bins, at few of very many. Counted as operations, about 4 ns each; it only says when the
  // search ends.
  constexpr size_t kMostLooks = 128;
  pricer_.count(static_cast<int64_t>(parts.size() * (16 + std::min(target.size() / 2, kMostLooks))));
  if (!bins.fill(parts)) {
    // The cap binds. MULTIFIT (first fit under a target, by bisection) has been tried here: what it packs, the search
    // over the number of packs finds as well, and on the length files it changed no step (bench/RESULTS.md).
    bins.clear();
    if (!bins.fill_by_rows(parts)) return draft;
  }
  // Packs by cost to positions by wanted size: the hump survives whatever the filling did.
  std::vector<size_t> by_cost(index(candidate.packs));
  std::iota(by_cost.begin(), by_cost.end(), size_t{0});
  std::stable_sort(by_cost.begin(), by_cost.end(),
                   [&](size_t a, size_t b) { return bins.load()[a].cost < bins.load()[b].cost; });
  const std::vector<size_t> position = by_size(target);
  std::vector<size_t> bin_at(index(candidate.packs));
  for (size_t i = 0; i < position.size(); ++i) bin_at[position[i]] = by_cost[i];
  std::vector<int64_t> cost;
  for (const size_t bin : bin_at) {
    if (bins.content()[bin].empty()) continue;
    draft.pack.emplace_back().sample = bins.samples(bin);
    cost.push_back(bins.load()[bin].cost);
  }
  if (evens_up_ && candidate.units == candidate.packs) even_up(draft, cost);
  slice(draft, candidate, cost);
  if (problem_.fills_up) {
    size_t units = 0;
    for (const PackDraft& pack : draft.pack) units += index(pack.slices());
    for (; units % index(problem_.stages) != 0; ++units) draft.pack.emplace_back();
  }
  for (PackDraft& pack : draft.pack) pricer_.price(pack);
  draft.makespan = pricer_.makespan(draft, most);
  return draft;
}

void ReplicaSearch::even_up(ReplicaDraft& draft, std::vector<int64_t>& cost) {
  while (draft.pack.size() % index(problem_.stages) != 0) {
    const auto costliest = std::max_element(cost.begin(), cost.end()) - cost.begin();
    Splits halves(by_label(problem_.atom_of, draft.pack[index(costliest)].sample));
    const std::vector<Bundle>& half = halves.into(scope_, 2);
    if (half.size() < 2) return;
    draft.pack[index(costliest)].sample = half[0].sample;
    cost[index(costliest)] = half[0].alone.cost;
    draft.pack.emplace(draft.pack.begin() + costliest + 1)->sample = half[1].sample;
    cost.insert(cost.begin() + costliest + 1, half[1].alone.cost);
  }
}

void ReplicaSearch::slice(ReplicaDraft& draft, const Candidate& candidate, std::span<const int64_t> cost) const {
  if (candidate.units == candidate.packs) return;
  const std::vector<int> count = hand_out(candidate.units, cost);
  int unit = 0;
  for (size_t i = 0; i < draft.pack.size(); ++i) {
    int64_t all = 0, so_far = 0;
    for (int k = 0; k < count[i]; ++k) all += size_of_unit(candidate, unit + k, candidate.units);
    for (int k = 0; k + 1 < count[i]; ++k) {
      so_far += size_of_unit(candidate, unit + k, candidate.units);
      draft.pack[i].ends.push_back(scaled(kWholePack, so_far, all));
    }
    unit += count[i];
  }
  if (candidate.is_wide) draft.window = longest(draft);
}

}  // namespace fpdist::plan
