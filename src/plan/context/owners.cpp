#include "src/plan/context/owners.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "src/core/index.hpp"
#include "src/plan/context/placement.hpp"
#include "src/plan/context/refine.hpp"

namespace fpdist::plan {
namespace {

/// Work of all searches for one pack, and of one local search, in examined moves: about half a millisecond together.
/// Half as much: keys over the bound 1.65; twice: 1.61 and 0.7 ms; no end: 1.49 and 2.3 ms. One search with 5,000:
/// three more packs above the cap; with all 70,000: one fewer, keys 1.57 and a tenth more time.
constexpr int64_t kBudget = 70000, kBudgetOfOne = 10000;

/// Placing and judging one chunk on one team takes as long as examining so many moves, measured; uncounted, plans take
/// up to 1.8 ms.
constexpr int64_t kMovesPerPlacing = 2;

/// Permille of the mean that a search levels to, that it may undo for fewer keys, and that boundaries are levelled to:
/// all below the cap, since looser targets save keys. To level to 1000 first costs keys (1.63); to 1020 leaves packs
/// at 1.014 in the mean instead of 1.012.
constexpr int64_t kLevelled = 1010, kTraded = 1015, kFlat = 1002;

/// One way to place the units first.
struct OwnerStart {
  int64_t split_percent;  ///< subtrees up to this much of a team's share stay whole
  int64_t near;           ///< quarters of a row to carry that a row to receive counts
  bool fold;              ///< chunks of root nodes in two runs a team, early (cheap) and late (dear) queries paired
};

/// Starts in the order of what they won on random trees: every threshold early, with and without folding. With the
/// first start alone 23 packs end above the cap, with two 12, with four 7; the others win 15 of 96, the last four 5.
/// Without folded ones 12 end above it, with folded ones alone keys are 1.68.
constexpr std::array<OwnerStart, 16> kStarts = {{{105, 4, true},
                                                 {60, 4, false},
                                                 {30, 4, true},
                                                 {15, 4, false},
                                                 {105, 4, false},
                                                 {60, 4, true},
                                                 {30, 4, false},
                                                 {15, 4, true},
                                                 {105, 1, true},
                                                 {60, 1, false},
                                                 {30, 1, true},
                                                 {15, 1, false},
                                                 {105, 0, false},
                                                 {60, 0, true},
                                                 {30, 0, false},
                                                 {15, 0, true}}};

void place_folded(Placement& placement) {
  std::vector<size_t> roots;
  for (size_t u = 0; u < placement.units().size(); ++u)
    if (placement.units()[u].root) roots.push_back(u);
  const int64_t teams = placement.teams(), count = static_cast<int64_t>(roots.size());
  size_t next = 0;
  const auto share = [&](int64_t g) { return count / teams + (g < count % teams); };
  for (int64_t g = 0; g < teams; ++g)
    for (int64_t i = 0; i < (share(g) + 1) / 2; ++i) placement.add(roots[next++], g);
  for (int64_t g = teams; g-- > 0;)
    for (int64_t i = 0; i < share(g) / 2; ++i) placement.add(roots[next++], g);
}

void place_longest_first(Placement& placement, int64_t near, int64_t rows) {
  std::vector<size_t> order;
  const std::vector<Unit>& units = placement.units();
  for (size_t u = 0; u < units.size(); ++u)
    if (placement.team_of(u) < 0) order.push_back(u);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return units[a].share.load() > units[b].share.load(); });
  // Nearness must not empty a team: it counts at most a quarter of what a team carries (all of it: 18 packs above the
  // cap; an eighth: 6 and the same keys; without nearness: none and 1.80).
  const int64_t row = Share::kWhole / rows, most_near = Share::kWhole / placement.teams() / 4;
  std::vector<int64_t> added(index(placement.teams()));
  for (const size_t u : order) {
    if (near > 0) placement.added_rows(u, added);
    int64_t best = 0, best_cost = 0;
    for (int64_t g = 0; g < placement.teams(); ++g) {
      const int64_t cost =
          (placement.load(g) + units[u].share).load() + std::min(added[index(g)] * row * near / 4, most_near);
      if (g == 0 || cost < best_cost) best = g, best_cost = cost;
    }
    placement.add(u, best);
  }
}

Owners search_from(const ChunkTree& tree, const ShareScale& scale, int teams, const OwnerStart& start,
                   SearchBudget& budget) {
  const int64_t mean = Share::kWhole / teams;
  const std::vector<Unit> units = make_units(tree, scale, start.split_percent * mean / 100);
  Placement placement(tree, units, teams);
  if (start.fold) place_folded(placement);
  place_longest_first(placement, start.near, tree.rows);
  balance(placement, mean * kLevelled / 1000, budget);
  reduce_received(placement, std::max(placement.worst_load(), mean * kTraded / 1000), budget);
  Owners result{tree.chunk, std::vector<int32_t>(tree.chunk.size()), {}};
  for (size_t u = 0; u < units.size(); ++u)
    std::fill(result.owner.begin() + units[u].begin, result.owner.begin() + units[u].end,
              static_cast<int32_t>(placement.team_of(u)));
  OwnerScore& score = result.score;
  score.worst_load = level_boundaries(tree, scale, result.owner, teams, mean * kFlat / 1000, result.chunk);
  score.imbalance = std::max(kBalanceCapPercent, (score.worst_load * 100 + mean - 1) / mean);
  const std::vector<int64_t> received =
      ConsumerSets(tree, result.owner, teams).received_rows(result.chunk, result.owner);
  score.worst_rows = *std::max_element(received.begin(), received.end());
  score.all_rows = std::accumulate(received.begin(), received.end(), int64_t{0});
  return result;
}

}  // namespace

Owners choose_owners(const ChunkTree& tree, int teams, int64_t bound) {
  Owners best{tree.chunk, std::vector<int32_t>(tree.chunk.size()), {}};
  if (tree.chunk.empty() || teams == 1) return best;
  const ShareScale scale(tree);
  int64_t left = kBudget;
  for (size_t i = 0; i < kStarts.size() && (i == 0 || left > 0); ++i) {
    SearchBudget budget{kBudgetOfOne};
    Owners found = search_from(tree, scale, teams, kStarts[i], budget);
    left -= kBudgetOfOne - budget.left;
    left -= static_cast<int64_t>(tree.chunk.size()) * teams * kMovesPerPlacing;
    if (i == 0 || found.score < best.score) best = std::move(found);
    if (best.score.imbalance <= kBalanceCapPercent && best.score.worst_rows <= bound) break;
  }
  return best;
}

}  // namespace fpdist::plan
