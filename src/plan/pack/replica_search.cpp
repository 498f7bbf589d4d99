#include "src/plan/pack/replica_search.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "src/core/index.hpp"
#include "src/plan/pack/deal.hpp"

namespace fpdist::plan {
namespace {

/// Units of a replica, where packs are cut: a limit for costs without overhead. Plans of the length files have fewer
/// than 128 (512: no plan differs; 64: four do).
constexpr int kMostUnits = 256;
/// Percent of balanced_units to start from, the likeliest first. It knows nothing of groups and caps: with 80 alone
/// steps are 0.11 % longer in the mean, up to 1.1 %.
constexpr std::array<int64_t, 5> kStartUnits{80, 60, 100, 40, 130};

int64_t integer_root(int64_t square) {
  int64_t root = 0;
  while ((root + 1) * (root + 1) <= square) ++root;
  return root;
}

}  // namespace

ReplicaSearch::ReplicaSearch(const PackProblem& problem, Pricer& pricer, std::span<const int32_t> samples)
    : problem_(problem), pricer_(pricer), scope_(problem.tree, problem.costs, samples) {
  for (const auto& of_cluster : by_label(problem.cluster_of, samples)) {
    cluster_.emplace_back(by_label(problem.atom_of, of_cluster));
    atoms_ += static_cast<int32_t>(cluster_.back().atoms());
  }
}

bool ReplicaSearch::consider(const Candidate& candidate, Descent& best) {
  if (!tried_.insert(candidate).second) return false;
  --tries_left_;
  ReplicaDraft draft = build(candidate, best.draft.makespan);
  if (draft.makespan >= best.draft.makespan) return false;
  best = {candidate, std::move(draft)};
  return true;
}

/// Packs of a first fit decreasing by rows: as few as the cap allows without tearing what fits.
int64_t ReplicaSearch::fewest_packs() {
  const std::vector<const Bundle*> parts = bundles(kNever);
  int64_t rows = 0;
  for (const Bundle* part : parts) rows += part->alone.rows;
  // Of two packs of a first fit, the second's first bundle did not fit into the first: together they exceed one.
  const auto enough = index(2 * rows / problem_.most_rows + 2);
  Bins bins(scope_.shared(), std::vector<int64_t>(enough), problem_.most_rows);
  bins.fill_by_rows(parts);
  const auto is_used = [](const std::vector<const Bundle*>& content) { return !content.empty(); };
  return std::count_if(bins.content().begin(), bins.content().end(), is_used);
}

/// The number of units at which overhead and bubble grow alike: sqrt((p-1) * rows / overhead) / runs.
int64_t ReplicaSearch::balanced_units() const {
  const StageCosts& costs = problem_.costs;
  // Where overhead is next to nothing, no more units than can be told apart: sqrt(16 * kMostUnits * (p - 1)) / runs.
  const int64_t overhead = std::max({int64_t{1}, overhead_work(costs), scope_.total().cost / (16 * kMostUnits)});
  return integer_root((problem_.stages - 1) * (scope_.total().cost / overhead) / problem_.runs);
}

/// Slices cost op lists, messages and resident keys: enough to fill any pipeline (8 a stage), and no more where
/// overhead is nothing.
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
  for (const int64_t percent : kStartUnits) {
    const int64_t wanted = std::max(balanced_units() * percent / 100, fewest);
    units.push_back(static_cast<int>((wanted + step - 1) / step) * step);
  }
  std::vector<std::vector<Candidate>> groups(1);
  if (!sliced) {
    const int most = most_packs();
    for (const int one : units)
      groups[0].push_back({.units = std::min(one, most),
                           .packs = std::min(one, most),
                           .front = 1,
                           .back = 1,
                           .slack = kTearsSome,
                           .is_wide = false});
    return groups;
  }
  groups.clear();
  // Slices are there so that groups stay whole, and are small enough without ramps: tearing from the start makes steps
  // 0.13 % longer in the mean, ramps 0.20 %, a narrow window 0.18 %. More packs than the cap asks for are less to hold
  // in flight: without twice as many, small steps are 1.1 % longer.
  for (const int64_t packs : {fewest, fewest + 1, fewest + fewest / 4 + 1, 2 * fewest}) {
    std::vector<Candidate>& group = groups.emplace_back();
    for (const int wanted : units)
      if (const int one = std::min(wanted, most_units()); packs < one && packs <= atoms_)
        group.push_back({.units = one,
                         .packs = static_cast<int>(packs),
                         .front = 0,
                         .back = 0,
                         .slack = kTearsNone,
                         .is_wide = true});
  }
  return groups;
}

std::vector<Descent> ReplicaSearch::run(bool sliced, int tries, int64_t most_effort) {
  std::vector<Descent> all;
  const auto try_from = [&](std::span<const Candidate> starts) {
    Descent found = descend(starts, tries, most_effort);
    if (found.draft.makespan != kNever) all.push_back(std::move(found));
  };
  for (const std::vector<Candidate>& group : starts(sliced)) try_from(group);
  if (all.empty() && !sliced && problem_.schedule == Schedule::kInterleaved) {
    evens_up_ = true;
    tried_.clear();
    for (const std::vector<Candidate>& group : starts(sliced)) try_from(group);
  }
  if (all.empty() && !sliced) {  // as fine as it gets
    const Candidate finest[] = {{.units = most_packs(), .packs = most_packs()}};
    try_from(finest);
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
  // One long step each way passes small hills: without, steps are 0.06 % longer in the mean, up to 0.6 %.
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
