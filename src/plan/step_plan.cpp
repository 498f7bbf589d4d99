#include "fpdist/plan/step_plan.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <tuple>
#include <utility>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/core/index.hpp"
#include "src/plan/costs/unit_cost.hpp"
#include "src/plan/plan_words.hpp"
#include "src/plan/step_tree.hpp"

namespace fpdist::plan {
namespace {

bool by_group(const MemberRef& a, const MemberRef& b) {
  return std::tie(a.group, a.index) < std::tie(b.group, b.index);
}

/// Samples without tokens cost nothing and ride along: with the first pack of their group, or, where their whole group
/// has no tokens, with the first pack of all.
class Riders {
 public:
  explicit Riders(const StepTree& step) : waiting_(index(step.tree.lines)) {
    std::vector<bool> has_tokens(waiting_.size(), false);
    for (const MemberRef& member : step.member) has_tokens[index(member.group)] = true;
    for (const MemberRef& rider : step.empty)
      (has_tokens[index(rider.group)] ? waiting_[index(rider.group)] : homeless_).push_back(rider);
  }
  void board(PackPlan& pack) {
    const size_t members = pack.member.size();
    for (size_t i = 0; i < members; ++i) move_all(waiting_[index(pack.member[i].group)], pack);
    move_all(homeless_, pack);
  }
  bool is_waiting() const { return !homeless_.empty(); }

 private:
  static void move_all(std::vector<MemberRef>& riders, PackPlan& pack) {
    pack.member.insert(pack.member.end(), riders.begin(), riders.end());
    riders.clear();
  }
  std::vector<std::vector<MemberRef>> waiting_;  ///< [groups]
  std::vector<MemberRef> homeless_;
};

PackPlan pack_plan(const PlannedPack& planned, const StepTree& step, const CostTable& forward) {
  PackPlan pack;
  Amount work;
  for (const Amount& slice : planned.slice) {
    work += slice;
    pack.slice_end.push_back(static_cast<int32_t>(work.rows));
  }
  for (const int32_t sample : planned.sample) {
    pack.member.push_back(step.member[index(sample)]);
    pack.edges += step.edges[index(sample)];
  }
  pack.rows = work.rows, pack.pairs = work.pairs, pack.scores = work.edges;
  pack.cost = forward.cost(work.rows, work.pairs, work.edges);
  return pack;
}

/// Cuts packs whose slices are not planned: whole, or in (at most) `wanted` slices of like row counts.
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

/// Adds empty packs where interleaving lacks a multiple of the stages.
void fill_up(StepPlan& plan) {
  for (std::vector<PackPlan>& packs : plan.replica) {
    size_t units = 0;
    for (const PackPlan& pack : packs) units += pack.slice_end.size();
    for (; units % index(plan.stages) != 0; ++units) packs.emplace_back().slice_end.push_back(0);
  }
}

}  // namespace

PipelineShape StepPlan::pipeline(int d) const {
  PipelineShape shape{
      .schedule = schedule, .stages = stages, .runs = runs, .slices = {}, .window = window.at(index(d))};
  for (const PackPlan& pack : replica.at(index(d))) shape.slices.push_back(static_cast<int>(pack.slice_end.size()));
  return shape;
}

PlannerOptions planner_options(Atomic atomic, const ParallelOptions& parallel, const PackOptions& options) {
  PlannerOptions planner;
  planner.replicas = parallel.dp;
  planner.parallel = parallel;
  planner.max_tokens = std::min<int64_t>(options.max_tokens, std::numeric_limits<int32_t>::max());
  planner.max_in_flight = options.max_in_flight;
  planner.may_slice = options.slices == 0 && parallel.pp > 1;
  planner.atomic = atomic;
  planner.may_fill_up = true;
  planner.search_layers = false;
  return planner;
}

StepPlan make_step_plan(std::span<const data::Group> groups, Atomic atomic, const ParallelOptions& parallel,
                        const StageCosts& costs, const PackOptions& options) {
  return make_step_plan(make_step_tree(groups, options.share_prefix), atomic, parallel, costs, options);
}

StepPlan make_step_plan(const StepTree& step, Atomic atomic, const ParallelOptions& parallel, const StageCosts& costs,
                        const PackOptions& options) {
  check<ConfigError>(parallel.dp >= 1, "parallel.dp is ", parallel.dp,
                     ": resolve the mesh against the number of ranks first");
  check<ConfigError>(options.max_tokens >= 1, "pack.max_tokens is ", options.max_tokens, ": set it to 1 or more");
  const PipelinePlan planned = plan_pipeline(step.tree, costs, planner_options(atomic, parallel, options));

  StepPlan plan;
  plan.totals = step.totals;
  plan.schedule = parallel.schedule, plan.stages = parallel.pp, plan.runs = parallel.virtual_stages;
  const CostTable forward = forward_cost(costs);
  Riders riders(step);
  for (const PlannedReplica& replica : planned.replica) {
    plan.window.push_back(replica.window);
    std::vector<PackPlan>& packs = plan.replica.emplace_back();
    for (const PlannedPack& pack : replica.pack) {
      packs.push_back(pack_plan(pack, step, forward));
      riders.board(packs.back());
      std::sort(packs.back().member.begin(), packs.back().member.end(), by_group);
    }
  }
  if (riders.is_waiting()) {  // a step without any token
    plan.replica[0].push_back(pack_plan({}, step, forward));
    riders.board(plan.replica[0].back());
  }
  cut_packs(plan, options.slices);
  if (parallel.schedule == Schedule::kInterleaved) fill_up(plan);
  for (const auto& packs : plan.replica)
    for (const PackPlan& pack : packs) plan.totals.tokens_computed += pack.rows;
  plan.hash = hash_of(plan, parallel);
  return plan;
}

}  // namespace fpdist::plan
