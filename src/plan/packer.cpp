#include "src/plan/packer.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

namespace fpdist::plan {
namespace {

size_t index(int32_t i) { return static_cast<size_t>(i); }

int64_t packs_of(const std::vector<PackedUnits>& replica) {
  return std::count_if(replica.begin(), replica.end(), [](const PackedUnits& pack) { return !pack.unit.empty(); });
}

/// Where a unit would go and what it would cost there. `pack` == number of packs: a new one.
struct Place {
  size_t pack = 0;
  int64_t cost = std::numeric_limits<int64_t>::max();
};

class Packer {
 public:
  Packer(const UnitSet& units, int replicas, const CostTable& costs, int64_t max_tokens)
      : units_(units), costs_(costs), max_tokens_(max_tokens) {
    packing_.replica.resize(static_cast<size_t>(replicas));
    packing_.load.resize(static_cast<size_t>(replicas));
  }

  void place_all();
  void refine();
  void place_rowless();
  Packing take() && { return std::move(packing_); }

 private:
  int64_t cost(const Work& work) const { return costs_.cost(work.rows, work.pairs, work.edges) - costs_.per_pack; }
  const Unit& unit(int32_t u) const { return units_.unit[index(u)]; }
  std::vector<PackedUnits>& packs(size_t replica) { return packing_.replica[replica]; }

  Work added(int32_t u, const PackedUnits& pack) const;
  Work freed(int32_t u, const PackedUnits& pack) const;
  int64_t freed_cost(int32_t u, const PackedUnits& pack) const {
    return cost(freed(u, pack)) + (pack.unit.size() == 1 ? costs_.per_pack : 0);
  }
  void place(int32_t u);
  Place best_place(int32_t u, size_t replica) const;
  void add(int32_t u, size_t replica, const Place& place);
  void remove(int32_t u, size_t replica, size_t pack);
  bool move_one(size_t high, size_t low);
  bool swap_one(size_t high, size_t low);
  bool try_swap(size_t high, size_t low, std::pair<int32_t, size_t> from_high, std::pair<int32_t, size_t> from_low);

  const UnitSet& units_;
  CostTable costs_;
  int64_t max_tokens_;
  Packing packing_;
};

Work Packer::added(int32_t u, const PackedUnits& pack) const {
  Work work = unit(u).own;
  for (const int32_t node : unit(u).shared)
    if (pack.users[index(node)] == 0) work += units_.shared[index(node)];
  return work;
}

Work Packer::freed(int32_t u, const PackedUnits& pack) const {
  Work work = unit(u).own;
  for (const int32_t node : unit(u).shared)
    if (pack.users[index(node)] == 1) work += units_.shared[index(node)];
  return work;
}

/// The cheapest pack of the replica that has room, else a new pack (or an emptied one).
Place Packer::best_place(int32_t u, size_t replica) const {
  const std::vector<PackedUnits>& all = packing_.replica[replica];
  Place best;
  size_t empty = all.size();
  for (size_t p = 0; p < all.size(); ++p) {
    if (all[p].unit.empty()) {
      empty = std::min(empty, p);
      continue;
    }
    if (all[p].work.rows + unit(u).own.rows > max_tokens_) continue;
    const Work work = added(u, all[p]);
    if (all[p].work.rows + work.rows <= max_tokens_ && cost(work) < best.cost) best = {p, cost(work)};
  }
  const int64_t fresh = cost(unit(u).alone) + costs_.per_pack;
  return fresh < best.cost ? Place{empty, fresh} : best;
}

void Packer::add(int32_t u, size_t replica, const Place& place) {
  if (place.pack == packs(replica).size())
    packs(replica).push_back({{}, {}, std::vector<int32_t>(units_.shared.size())});
  PackedUnits& pack = packs(replica)[place.pack];
  packing_.load[replica] += place.cost;
  pack.work += added(u, pack);
  pack.unit.push_back(u);
  for (const int32_t node : unit(u).shared) ++pack.users[index(node)];
}

void Packer::remove(int32_t u, size_t replica, size_t p) {
  PackedUnits& pack = packs(replica)[p];
  packing_.load[replica] -= freed_cost(u, pack);
  pack.work -= freed(u, pack);
  pack.unit.erase(std::find(pack.unit.begin(), pack.unit.end(), u));
  for (const int32_t node : unit(u).shared) --pack.users[index(node)];
}

void Packer::place_all() {
  std::vector<int32_t> order(units_.unit.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return cost(unit(a).alone) > cost(unit(b).alone); });
  for (const int32_t u : order)
    if (unit(u).alone.rows > 0) place(u);
}

void Packer::place(int32_t u) {
  std::optional<size_t> chosen;
  Place best;
  int64_t best_load = std::numeric_limits<int64_t>::max();
  for (size_t r = 0; r < packing_.replica.size(); ++r) {
    if (chosen && packing_.load[r] + cost(unit(u).own) >= best_load) continue;
    const Place place = best_place(u, r);
    if (chosen && packing_.load[r] + place.cost >= best_load) continue;
    chosen = r;
    best = place;
    best_load = packing_.load[r] + place.cost;
  }
  add(u, *chosen, best);
}

/// Units without a single row join the first pack there is: alone they would be a micro-batch of nothing.
void Packer::place_rowless() {
  for (size_t u = 0; u < units_.unit.size(); ++u) {
    if (units_.unit[u].alone.rows > 0) continue;
    size_t replica = 0;
    while (replica < packing_.replica.size() && packs_of(packing_.replica[replica]) == 0) ++replica;
    if (replica == packing_.replica.size()) replica = 0;
    add(static_cast<int32_t>(u), replica, best_place(static_cast<int32_t>(u), replica));
  }
}

/// Moves the unit that lowers the higher load of the two most.
bool Packer::move_one(size_t high, size_t low) {
  int64_t best_load = packing_.load[high];
  int32_t best_unit = -1;
  size_t from = 0;
  Place best;
  for (size_t p = 0; p < packs(high).size(); ++p) {
    for (const int32_t u : packs(high)[p].unit) {
      if (packing_.load[low] + cost(unit(u).own) >= best_load) continue;
      const Place place = best_place(u, low);
      const int64_t load =
          std::max(packing_.load[high] - freed_cost(u, packs(high)[p]), packing_.load[low] + place.cost);
      if (load < best_load) best_load = load, best_unit = u, from = p, best = place;
    }
  }
  if (best_unit < 0) return false;
  remove(best_unit, high, from);
  add(best_unit, low, best);
  return true;
}

/// Swaps the pair whose difference comes nearest to half the gap, judged by what each frees where it lies.
bool Packer::swap_one(size_t high, size_t low) {
  struct Candidate {
    int64_t freed;
    int32_t unit;
    size_t pack;
  };
  const auto list = [&](size_t replica) {
    std::vector<Candidate> all;
    for (size_t p = 0; p < packs(replica).size(); ++p)
      for (const int32_t u : packs(replica)[p].unit) all.push_back({freed_cost(u, packs(replica)[p]), u, p});
    std::sort(all.begin(), all.end(), [](const Candidate& a, const Candidate& b) {
      return std::pair(a.freed, a.unit) < std::pair(b.freed, b.unit);
    });
    return all;
  };
  const std::vector<Candidate> from_high = list(high), from_low = list(low);
  const int64_t gap = packing_.load[high] - packing_.load[low];
  std::optional<std::pair<Candidate, Candidate>> best;
  int64_t best_miss = gap / 2;
  for (const Candidate& candidate : from_high) {
    const auto above = std::lower_bound(from_low.begin(), from_low.end(), candidate.freed - gap / 2,
                                        [](const Candidate& c, int64_t freed) { return c.freed < freed; });
    for (auto other : {above, above == from_low.begin() ? above : above - 1}) {
      if (other == from_low.end()) continue;
      const int64_t difference = candidate.freed - other->freed;
      const int64_t miss = std::max(difference - gap / 2, gap / 2 - difference);
      if (difference > 0 && miss < best_miss) best_miss = miss, best = {candidate, *other};
    }
  }
  return best && try_swap(high, low, {best->first.unit, best->first.pack}, {best->second.unit, best->second.pack});
}

/// Swaps for real, looks at the loads, and puts both back unless the higher load fell.
bool Packer::try_swap(size_t high, size_t low, std::pair<int32_t, size_t> from_high,
                      std::pair<int32_t, size_t> from_low) {
  const int64_t before = packing_.load[high], before_low = packing_.load[low];
  remove(from_high.first, high, from_high.second);
  remove(from_low.first, low, from_low.second);
  const Place to_high = best_place(from_low.first, high), to_low = best_place(from_high.first, low);
  add(from_low.first, high, to_high);
  add(from_high.first, low, to_low);
  if (std::max(packing_.load[high], packing_.load[low]) < before) return true;
  remove(from_low.first, high, to_high.pack);
  remove(from_high.first, low, to_low.pack);
  add(from_high.first, high, {from_high.second, before - packing_.load[high]});
  add(from_low.first, low, {from_low.second, before_low - packing_.load[low]});
  return false;
}

void Packer::refine() {
  constexpr int kRoundsPerReplica = 4;
  const int rounds = 16 + kRoundsPerReplica * static_cast<int>(packing_.replica.size());
  for (int round = 0; round < rounds && packing_.is_unbalanced_by(0); ++round) {
    const auto begin = packing_.load.begin(), end = packing_.load.end();
    const auto low = static_cast<size_t>(std::min_element(begin, end) - begin);
    const auto high = static_cast<size_t>(std::max_element(begin, end) - begin);
    if (!move_one(high, low) && !swap_one(high, low)) return;
  }
}

}  // namespace

int64_t Packing::max_load() const { return *std::max_element(load.begin(), load.end()); }

int64_t Packing::packs() const {
  int64_t count = 0;
  for (const auto& one : replica) count += packs_of(one);
  return count;
}

bool Packing::is_unbalanced_by(int64_t percent) const {
  // Loads may be near 2^60, so nothing is summed or multiplied before it is divided.
  const auto replicas = static_cast<int64_t>(load.size());
  int64_t mean = 0, rest = 0;
  for (const int64_t one : load) mean += one / replicas, rest += one % replicas;
  mean += rest / replicas;
  return max_load() > mean + mean / 100 * percent + mean % 100 * percent / 100;
}

Packing pack_units(const UnitSet& units, int replicas, const CostTable& costs, int64_t max_tokens) {
  Packer packer(units, replicas, costs, max_tokens);
  packer.place_all();
  packer.refine();
  packer.place_rowless();
  return std::move(packer).take();
}

}  // namespace fpdist::plan
