#include "src/plan/context/refine.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "src/core/index.hpp"

namespace fpdist::plan {
namespace {

/// Teams that are examined as partners: the lightest ones. One: 10 packs above the cap; all: 8.
constexpr size_t kPartners = 6;

/// Trying an exchange takes as long as examining so many; 1 and 128 change one and three of 96 plans.
constexpr int64_t kCostOfTrial = 32;

std::vector<int64_t> lightest_teams(const Placement& placement, int64_t but) {
  std::vector<int64_t> teams;
  for (int64_t g = 0; g < placement.teams(); ++g)
    if (g != but) teams.push_back(g);
  const size_t kept = std::min(kPartners, teams.size());
  std::partial_sort(teams.begin(), teams.begin() + static_cast<std::ptrdiff_t>(kept), teams.end(),
                    [&](int64_t a, int64_t b) {
                      const int64_t x = placement.load(a).load(), y = placement.load(b).load();
                      return x != y ? x < y : a < b;
                    });
  teams.resize(kept);
  return teams;
}

constexpr size_t kNone = index(-1);

struct UnitExchange {
  size_t mine = kNone, theirs = kNone;  ///< theirs kNone: a move
  int64_t team = 0;
};

void apply(Placement& placement, const UnitExchange& exchange, int64_t from) {
  placement.remove(exchange.mine);
  if (exchange.theirs != kNone) placement.remove(exchange.theirs);
  placement.add(exchange.mine, exchange.team);
  if (exchange.theirs != kNone) placement.add(exchange.theirs, from);
}

/// Calls visit(exchange) for all moves and swaps of units of `from` with the partners. Returns how many there were.
template <typename Visit>
int64_t for_exchanges(const Placement& placement, int64_t from, std::span<const int64_t> partners, bool swaps,
                      Visit visit) {
  int64_t examined = 0;
  for (const size_t mine : placement.units_of(from)) {
    for (const int64_t team : partners) {
      visit(UnitExchange{mine, kNone, team});
      ++examined;
      if (!swaps) continue;
      for (const size_t theirs : placement.units_of(team)) visit(UnitExchange{mine, theirs, team});
      examined += static_cast<int64_t>(placement.units_of(team).size());
    }
  }
  return examined;
}

Share moved_share(const Placement& placement, const UnitExchange& exchange) {
  Share moved = placement.units()[exchange.mine].share;
  if (exchange.theirs != kNone) moved -= placement.units()[exchange.theirs].share;
  return moved;
}

/// What the worse of the two teams would receive, at least: what the units share is counted as saved and not as added.
int64_t least_received(const Placement& placement, const UnitExchange& exchange, int64_t from) {
  const int64_t to = exchange.team;
  const auto& units = placement.units();
  int64_t mine = placement.received(from) - placement.saved_rows(exchange.mine);
  int64_t theirs = placement.received(to) + placement.added_rows(exchange.mine, to) - units[exchange.mine].rows;
  if (exchange.theirs != kNone) {
    mine += placement.added_rows(exchange.theirs, from) - units[exchange.theirs].rows;
    theirs -= placement.saved_rows(exchange.theirs);
  }
  return std::max(mine, theirs);
}

/// Lowers the load of the heaviest team as far as one exchange can, but not for its own sake below `target`: of those
/// that reach it, the one that adds fewest keys.
bool balance_once(Placement& placement, int64_t worst, int64_t target, bool swaps, SearchBudget& budget) {
  int64_t best = placement.load(worst).load(), best_added = 0;
  UnitExchange chosen;
  budget.spend(
      for_exchanges(placement, worst, lightest_teams(placement, worst), swaps, [&](const UnitExchange& exchange) {
        const Share moved = moved_share(placement, exchange);
        const int64_t load =
            std::max({target, (placement.load(worst) - moved).load(), (placement.load(exchange.team) + moved).load()});
        if (load > best || (load == best && chosen.mine == kNone)) return;
        int64_t added = placement.added_rows(exchange.mine, exchange.team);
        if (exchange.theirs != kNone) added += placement.added_rows(exchange.theirs, worst);
        if (load == best && added >= best_added) return;
        best = load, best_added = added, chosen = exchange;
      }));
  if (chosen.mine == kNone) return false;
  apply(placement, chosen, worst);
  return true;
}

}  // namespace

void balance(Placement& placement, int64_t target, SearchBudget& budget) {
  while (budget.left > 0) {
    const int64_t worst = placement.heaviest();
    if (placement.load(worst).load() <= target) return;
    // Moves are few to look at; swaps only where no move helps.
    if (!balance_once(placement, worst, target, false, budget) && !balance_once(placement, worst, target, true, budget))
      return;
  }
}

void reduce_received(Placement& placement, int64_t most, SearchBudget& budget) {
  std::vector<int64_t> partners;
  while (budget.left > 0) {
    int64_t worst = 0;
    for (int64_t g = 1; g < placement.teams(); ++g)
      if (placement.received(g) > placement.received(worst)) worst = g;
    partners.clear();
    for (int64_t g = 0; g < placement.teams(); ++g)
      if (g != worst) partners.push_back(g);
    const int64_t old = placement.received(worst);
    std::vector<std::pair<int64_t, UnitExchange>> hopeful;
    budget.spend(for_exchanges(placement, worst, partners, true, [&](const UnitExchange& exchange) {
      const Share moved = moved_share(placement, exchange);
      if ((placement.load(worst) - moved).load() > most || (placement.load(exchange.team) + moved).load() > most)
        return;
      const int64_t received = least_received(placement, exchange, worst);
      if (received < old) hopeful.emplace_back(received, exchange);
    }));
    std::stable_sort(hopeful.begin(), hopeful.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    // The estimate is never too high: the first that holds what it promises is the best.
    int64_t best = old;
    UnitExchange chosen;
    for (const auto& [received, exchange] : hopeful) {
      if (received >= best || !budget.spend(kCostOfTrial)) break;
      apply(placement, exchange, worst);
      const int64_t found = std::max(placement.received(worst), placement.received(exchange.team));
      if (found < best) best = found, chosen = exchange;
      apply(placement, {exchange.mine, kNone, worst}, worst);
      if (exchange.theirs != kNone) apply(placement, {exchange.theirs, kNone, exchange.team}, worst);
    }
    if (chosen.mine == kNone) return;
    apply(placement, chosen, worst);
  }
}

}  // namespace fpdist::plan
