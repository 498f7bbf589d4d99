#include "src/plan/pack/replica_search.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "src/plan/pack/deal.hpp"

namespace fpdist::plan {
namespace {

/// A group above slack percent of the mean pack is torn; the last keeps all that fit.
constexpr std::array<int64_t, 4> kSlack{105, 150, 300, int64_t{1} << 20};
constexpr int64_t kFullSize = 1 << 10;
constexpr int kMostUnits = 256;  // of a replica, where packs are cut

size_t index(int i) { return static_cast<size_t>(i); }

int64_t integer_root(int64_t square) {
  int64_t root = 0;
  while ((root + 1) * (root + 1) <= square) ++root;
  return root;
}

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

ReplicaSearch::ReplicaSearch(const PackProblem& problem, Pricer& pricer, std::span<const int32_t> samples)
    : problem_(problem), pricer_(pricer), scope_(problem.tree, problem.costs, samples) {
  for (const auto& of_cluster : by_label(problem.cluster_of, samples)) {
    Cluster& cluster = cluster_.emplace_back();
    cluster.atoms = by_label(problem.atom_of, of_cluster);
    cluster.split.resize(cluster.atoms.size());
    atoms_ += static_cast<int32_t>(cluster.atoms.size());
  }
}

const std::vector<Bundle>& ReplicaSearch::split(Cluster& cluster, size_t bundles) {
  std::vector<Bundle>& result = cluster.split[bundles - 1];
  if (result.empty()) result = split_evenly(scope_, cluster.atoms, bundles);
  return result;
}

std::vector<const Bundle*> ReplicaSearch::bundles(int64_t most_cost) {
  std::vector<const Bundle*> all;
  const auto fits = [&](const Bundle& bundle) {
    return bundle.alone.cost <= most_cost && bundle.alone.rows <= problem_.most_rows;
  };
  for (Cluster& cluster : cluster_) {
    size_t count = 1;
    while (count < cluster.atoms.size()) {
      const std::vector<Bundle>& parts = split(cluster, count);
      if (std::all_of(parts.begin(), parts.end(), fits)) break;
      ++count;
    }
    for (const Bundle& bundle : split(cluster, count)) all.push_back(&bundle);
  }
  return all;
}

ReplicaDraft ReplicaSearch::build(const Candidate& candidate, int64_t most) {
  ReplicaDraft draft;
  std::vector<int64_t> target(index(candidate.packs));
  int64_t sizes = 0;
  for (int u = 0; u < candidate.units; ++u) {
    const int64_t size = size_of_unit(candidate, u, candidate.units);
    target[index(u * candidate.packs / candidate.units)] += size;
    sizes += size;
  }
  for (int64_t& one : target) one = scaled(scope_.total().cost, one, sizes);

  Bins bins(scope_.shared(), target, problem_.most_rows);
  const int64_t mean = scope_.total().cost / candidate.packs;
  const std::vector<const Bundle*> parts = bundles(scaled(mean, kSlack[index(candidate.slack)], 100));
  pricer_.count(static_cast<int64_t>(parts.size() * (16 + target.size() / 2)));
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

bool ReplicaSearch::consider(const Candidate& candidate, Descent& best) {
  if (!tried_.insert(candidate).second) return false;
  --tries_left_;
  ReplicaDraft draft = build(candidate, best.draft.makespan);
  if (draft.makespan >= best.draft.makespan) return false;
  best = {candidate, std::move(draft)};
  return true;
}

/// By rows, first fit decreasing: as few packs as the cap allows without tearing what fits.
int64_t ReplicaSearch::fewest_packs() {
  const std::vector<const Bundle*> parts = bundles(kNever);
  int64_t rows = 0;
  for (const Bundle* part : parts) rows += part->alone.rows;
  // Of two packs of a first fit, the second's first bundle did not fit into the first: together they exceed one.
  const auto enough = static_cast<size_t>(2 * rows / problem_.most_rows + 2);
  Bins bins(scope_.shared(), std::vector<int64_t>(enough), problem_.most_rows);
  bins.fill_by_rows(parts);
  const auto is_used = [](const std::vector<const Bundle*>& content) { return !content.empty(); };
  return std::count_if(bins.content().begin(), bins.content().end(), is_used);
}

/// The number of units at which overhead and bubble grow alike: sqrt((p-1) * rows / overhead) / runs.
int64_t ReplicaSearch::balanced_units() const {
  const StageCosts& costs = problem_.costs;
  // Where overhead is next to nothing, no more units than can be told apart.
  const int64_t overhead = std::max(
      {int64_t{1}, 3 * costs.per_row * costs.overhead_rows * costs.layers, scope_.total().cost / (16 * kMostUnits)});
  return integer_root((problem_.stages - 1) * (scope_.total().cost / overhead) / problem_.runs);
}

/// Slices cost op lists, messages and resident keys: enough to fill any pipeline, and no more where overhead is
/// nothing.
int ReplicaSearch::most_units() const {
  return std::max(kMostUnits, 8 * problem_.stages) / problem_.stages * problem_.stages;
}

/// One an atom; with interleaving a multiple of the stages.
int ReplicaSearch::most_packs() const {
  const int step = problem_.schedule == Schedule::kInterleaved ? problem_.stages : 1;
  return std::max(step, (problem_.fills_up ? atoms_ + step - 1 : atoms_) / step * step);
}

std::vector<std::vector<Candidate>> ReplicaSearch::starts(bool sliced) {
  const int step = problem_.schedule == Schedule::kInterleaved ? problem_.stages : 1;
  const int64_t fewest = fewest_packs();
  std::vector<int> units;
  for (const int64_t percent : {80, 60, 100, 40, 130}) {
    const int64_t wanted = std::max(balanced_units() * percent / 100, fewest);
    units.push_back(static_cast<int>((wanted + step - 1) / step) * step);
  }
  std::vector<std::vector<Candidate>> groups(1);
  if (!sliced) {
    const int most = most_packs();
    for (const int one : units) groups[0].push_back({std::min(one, most), std::min(one, most), 1, 1, 1, false});
    return groups;
  }
  groups.clear();
  for (const int64_t packs : {fewest, fewest + 1, fewest + fewest / 4 + 1, 2 * fewest}) {
    std::vector<Candidate>& group = groups.emplace_back();
    for (const int wanted : units)
      if (const int one = std::min(wanted, most_units()); packs < one && packs <= atoms_)
        group.push_back({one, static_cast<int>(packs), 0, 0, 3, true});
  }
  return groups;
}

std::vector<Descent> ReplicaSearch::run(bool sliced, int tries, int64_t most_effort) {
  std::vector<Descent> all;
  for (const std::vector<Candidate>& group : starts(sliced)) {
    all.push_back(descend(group, tries, most_effort));
    if (all.back().draft.makespan == kNever) all.pop_back();
  }
  if (all.empty() && !sliced) {  // as fine as it gets
    const Candidate finest[] = {{.units = most_packs(), .packs = most_packs()}};
    all.push_back(descend(finest, tries, most_effort));
    if (all.back().draft.makespan == kNever) all.pop_back();
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const Descent& a, const Descent& b) { return a.draft.makespan < b.draft.makespan; });
  return all;
}

std::vector<Candidate> ReplicaSearch::neighbours(const Candidate& at) const {
  std::vector<Candidate> all;
  const int step = problem_.schedule == Schedule::kInterleaved ? problem_.stages : 1;
  const auto add = [&](Candidate candidate) {
    const bool is_cut = candidate.units > candidate.packs;
    const bool has_range = !(is_cut && candidate.units > most_units()) && candidate.packs >= 1 &&
                           candidate.packs <= atoms_ && candidate.units >= candidate.packs &&
                           candidate.units % step == 0 && candidate.front >= 0 && candidate.back >= 0 &&
                           candidate.front + candidate.back < candidate.units + 2 && candidate.slack >= 0 &&
                           index(candidate.slack) < kSlack.size();
    if (has_range && (problem_.may_slice || candidate.packs == candidate.units)) all.push_back(candidate);
  };
  const auto change = [&](auto field, int by) {
    Candidate candidate = at;
    candidate.*field += by;
    add(candidate);
  };
  const bool is_whole = at.packs == at.units;
  for (const int by : {-3, -1, 1, 3}) {
    Candidate candidate = at;
    candidate.units += by * step;
    if (is_whole) candidate.packs = candidate.units;
    add(candidate);
  }
  for (const auto field : {&Candidate::front, &Candidate::back})
    for (const int by : {-1, 1, 2}) change(field, by);
  for (const int by : {-1, 1}) change(&Candidate::slack, by);
  if (!is_whole) {
    for (const int by : {-1, 1, 2}) change(&Candidate::packs, by);
    Candidate candidate = at;
    candidate.is_wide = !at.is_wide;
    add(candidate);
  }
  return all;
}

Descent ReplicaSearch::descend(std::span<const Candidate> starts, int tries, int64_t most_effort) {
  Descent best;
  tries_left_ = tries + static_cast<int>(starts.size());
  const auto is_over = [&] {
    return best.draft.makespan != kNever && (tries_left_ <= 0 || pricer_.effort() >= most_effort);
  };
  for (size_t i = 0; i < starts.size() && !is_over(); ++i) consider(starts[i], best);
  for (bool improved = best.draft.makespan != kNever; improved && !is_over();) {
    improved = false;
    for (const Candidate& next : neighbours(best.candidate)) {
      improved = consider(next, best);
      if (improved || is_over()) break;
    }
  }
  return best;
}

}  // namespace fpdist::plan
