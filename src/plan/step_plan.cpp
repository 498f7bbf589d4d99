#include "fpdist/plan/step_plan.hpp"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <tuple>
#include <utility>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/plan/cost_model.hpp"
#include "src/plan/packer.hpp"
#include "src/plan/pipeline_packs.hpp"
#include "src/plan/units.hpp"

namespace fpdist::plan {
namespace {

/// Beyond this, groups whose loss allows it are torn apart.
constexpr int64_t kTolerablePercent = 5;

size_t index(int32_t i) { return static_cast<size_t>(i); }

/// Which groups cannot stay whole; throws when one may not be torn or a single sample is too long.
std::vector<bool> tear_too_large(const UnitSet& whole, std::span<const data::Group> groups, bool may_tear,
                                 int64_t max_tokens) {
  std::vector<bool> torn(groups.size(), false);
  int64_t needed = 0, needed_by = 0;
  for (const Unit& unit : whole.unit) {
    const int32_t g = unit.member.front().group;
    int64_t smallest = unit.alone.rows;
    if (smallest <= max_tokens) continue;
    if (may_tear) {
      torn[index(g)] = true;
      smallest = 0;
      for (const data::Sample& sample : groups[index(g)].sample) smallest = std::max(smallest, sample.length());
    }
    if (smallest > needed) needed = smallest, needed_by = groups[index(g)].id;
  }
  check<ConfigError>(needed <= max_tokens, "group ", needed_by, (may_tear ? " holds a sample of " : " needs "), needed,
                     " rows in one pack, pack.max_tokens is ", max_tokens, ": set pack.max_tokens to at least ", needed,
                     " or drop the row");
  return torn;
}

bool is_better(const Packing& a, const Packing& b) {
  return std::pair(a.max_load(), a.packs()) < std::pair(b.max_load(), b.packs());
}

struct Choice {
  UnitSet units;
  Packing packing;
};

/// Whole groups first; when that leaves replicas waiting, the costliest groups are torn by samples, then all of them.
Choice choose_packing(const StepForest& step, std::span<const data::Group> groups, bool may_tear, int replicas,
                      const CostTable& costs, int64_t max_tokens) {
  UnitSet whole = make_units(step, groups, std::vector<bool>(groups.size(), false));
  std::vector<std::pair<int64_t, size_t>> by_cost;  // (-cost, group): costliest first, ties by group
  for (const Unit& unit : whole.unit)
    by_cost.emplace_back(-costs.cost(unit.alone.rows, unit.alone.pairs, unit.alone.edges),
                         index(unit.member.front().group));
  std::sort(by_cost.begin(), by_cost.end());

  std::vector<bool> torn = tear_too_large(whole, groups, may_tear, max_tokens);
  const bool must_tear = std::find(torn.begin(), torn.end(), true) != torn.end();
  Choice best;
  best.units = must_tear ? make_units(step, groups, torn) : std::move(whole);
  best.packing = pack_units(best.units, replicas, costs, max_tokens);
  for (const size_t count : {static_cast<size_t>(replicas), groups.size()}) {
    if (!may_tear || !best.packing.is_unbalanced_by(kTolerablePercent)) break;
    bool tears_more = false;
    for (size_t i = 0; i < std::min(count, by_cost.size()); ++i) {
      const size_t g = by_cost[i].second;
      tears_more = tears_more || (!torn[g] && groups[g].sample.size() > 1);
      torn[g] = true;
    }
    if (!tears_more) continue;
    Choice other;
    other.units = make_units(step, groups, torn);
    other.packing = pack_units(other.units, replicas, costs, max_tokens);
    if (is_better(other.packing, best.packing)) best = std::move(other);
  }
  return best;
}

PackPlan pack_plan(const PackedUnits& pack, const UnitSet& units, const CostTable& costs) {
  PackPlan plan;
  for (const int32_t u : pack.unit)
    plan.member.insert(plan.member.end(), units.unit[index(u)].member.begin(), units.unit[index(u)].member.end());
  std::sort(plan.member.begin(), plan.member.end(), [](const MemberRef& a, const MemberRef& b) {
    return std::tie(a.group, a.index) < std::tie(b.group, b.index);
  });
  plan.rows = pack.work.rows;
  plan.pairs = pack.work.pairs;
  plan.edges = pack.work.edges;
  plan.cost = costs.cost(plan.rows, plan.pairs, plan.edges);
  return plan;
}

/// Packs without a plan of their own: whole, or in (at most) `wanted` slices of like row counts.
void cut_packs(StepPlan& plan, int wanted) {
  for (size_t d = 0; d < plan.replica.size(); ++d)
    for (PackPlan& pack : plan.replica[d]) {
      if (wanted < 2 && !pack.slice_end.empty()) continue;
      const auto slices = static_cast<int>(std::clamp<int64_t>(wanted, 1, std::max<int64_t>(1, pack.rows)));
      pack.slice_end.clear();
      for (int64_t s = 1; s <= slices; ++s) pack.slice_end.push_back(static_cast<int32_t>(pack.rows * s / slices));
      plan.window[d] = std::max(plan.window[d], slices);
    }
}

/// Interleaving takes a multiple of the stages: empty packs make up for what is missing.
void fill_up(StepPlan& plan) {
  for (std::vector<PackPlan>& packs : plan.replica) {
    size_t units = 0;
    for (const PackPlan& pack : packs) units += pack.slice_end.size();
    for (; units % static_cast<size_t>(plan.stages) != 0; ++units) packs.emplace_back().slice_end.push_back(0);
  }
}

/// The packing's packs by their first member; those without units are left out.
std::vector<std::vector<PackPlan>> packs_of(const Choice& choice, const CostTable& costs) {
  std::vector<std::vector<PackPlan>> replicas;
  for (const std::vector<PackedUnits>& packed : choice.packing.replica) {
    std::vector<PackPlan>& packs = replicas.emplace_back();
    for (const PackedUnits& pack : packed)
      if (!pack.unit.empty()) packs.push_back(pack_plan(pack, choice.units, costs));
    std::sort(packs.begin(), packs.end(), [](const PackPlan& a, const PackPlan& b) {
      return std::tie(a.member[0].group, a.member[0].index) < std::tie(b.member[0].group, b.member[0].index);
    });
  }
  return replicas;
}

/// False where the pipeline planner finds nothing: interleaving without a multiple of the stages, or groups that
/// interleave so that together they exceed the cap.
bool plan_packs(const StepForest& step, std::span<const data::Group> groups, bool may_tear,
                const ParallelOptions& parallel, const StageCosts& costs, const PackOptions& options, StepPlan& plan) {
  tear_too_large(make_units(step, groups, std::vector<bool>(groups.size(), false)), groups, may_tear,
                 options.max_tokens);
  try {
    PipelinePacks packs = pack_for_pipeline(step, groups, may_tear, parallel, costs, options);
    plan.replica = std::move(packs.replica), plan.window = std::move(packs.window);
    return true;
  } catch (const ConfigError&) {
    return false;
  }
}

StepTotals totals_of(const StepForest& step, size_t groups) {
  StepTotals totals;
  totals.groups = static_cast<int64_t>(groups);
  totals.samples = static_cast<int64_t>(step.edges.size());
  totals.tokens_logical = step.tokens_logical;
  for (const int64_t edges : step.edges) totals.edges += edges, totals.samples_with_edges += edges > 0;
  return totals;
}

/// Order-dependent mixing of every field (splitmix64's finaliser after each).
class Hash {
 public:
  void add(int64_t value) {
    state_ += static_cast<uint64_t>(value) + 0x9e3779b97f4a7c15ULL;
    state_ = (state_ ^ (state_ >> 30)) * 0xbf58476d1ce4e5b9ULL;
    state_ = (state_ ^ (state_ >> 27)) * 0x94d049bb133111ebULL;
    state_ = std::rotl(state_ ^ (state_ >> 31), 17);
  }
  uint64_t value() const { return state_; }

 private:
  uint64_t state_ = 0;
};

uint64_t hash_of(const StepPlan& plan, const ParallelOptions& parallel) {
  Hash hash;
  for (const int64_t field :
       {static_cast<int64_t>(plan.schedule), int64_t{plan.stages}, int64_t{plan.chunks}, int64_t{parallel.cp},
        static_cast<int64_t>(parallel.cp_method), int64_t{parallel.ulysses}, parallel.cp_chunk})
    hash.add(field);
  hash.add(static_cast<int64_t>(plan.replica.size()));
  for (const int window : plan.window) hash.add(window);
  for (const std::vector<PackPlan>& packs : plan.replica) {
    hash.add(static_cast<int64_t>(packs.size()));
    for (const PackPlan& pack : packs) {
      for (const int64_t field : {static_cast<int64_t>(pack.member.size()), pack.rows, pack.pairs, pack.edges,
                                  pack.cost, static_cast<int64_t>(pack.slice_end.size())})
        hash.add(field);
      for (const int32_t end : pack.slice_end) hash.add(end);
      for (const MemberRef& member : pack.member) hash.add(member.group), hash.add(member.index);
    }
  }
  const StepTotals& t = plan.totals;
  for (const int64_t field : {t.groups, t.samples, t.edges, t.samples_with_edges, t.tokens_logical, t.tokens_computed})
    hash.add(field);
  return hash.value();
}

}  // namespace

int64_t count_edges(const data::Sample& sample) {
  if (sample.target.empty()) return 0;
  return std::count_if(sample.target.begin() + 1, sample.target.end(),
                       [](int32_t target) { return target != data::kIgnore; });
}

PipelineShape StepPlan::pipeline(int d) const {
  PipelineShape shape{
      .schedule = schedule, .stages = stages, .chunks = chunks, .slices = {}, .window = window.at(index(d))};
  for (const PackPlan& pack : replica.at(index(d))) shape.slices.push_back(static_cast<int>(pack.slice_end.size()));
  return shape;
}

StepPlan make_step_plan(std::span<const data::Group> groups, Method method, const ParallelOptions& parallel,
                        const StageCosts& costs, const PackOptions& options) {
  check<ConfigError>(parallel.dp >= 1, "parallel.dp is ", parallel.dp,
                     ": resolve the mesh against the number of ranks first");
  check<ConfigError>(options.max_tokens >= 1, "pack.max_tokens is ", options.max_tokens, ": set it to 1 or more");
  PackOptions capped = options;
  capped.max_tokens = std::min<int64_t>(options.max_tokens, std::numeric_limits<int32_t>::max());
  const bool may_tear = !is_preference(method);
  const StepForest step = make_step_forest(groups, options.share_prefix);

  StepPlan plan;
  plan.totals = totals_of(step, groups.size());
  plan.schedule = parallel.schedule, plan.stages = parallel.pp, plan.chunks = parallel.virtual_stages;
  const bool is_planned = parallel.pp > 1 && plan.totals.tokens_logical > 0 &&
                          plan_packs(step, groups, may_tear, parallel, costs, capped, plan);
  if (!is_planned) {
    const CostTable forward = forward_cost(costs);
    plan.replica = packs_of(choose_packing(step, groups, may_tear, parallel.dp, forward, capped.max_tokens), forward);
    plan.window.assign(plan.replica.size(), 1);
  }
  cut_packs(plan, options.slices);
  if (parallel.schedule == Schedule::kInterleaved) fill_up(plan);
  for (const auto& packs : plan.replica)
    for (const PackPlan& pack : packs) plan.totals.tokens_computed += pack.rows;
  plan.hash = hash_of(plan, parallel);
  return plan;
}

}  // namespace fpdist::plan
