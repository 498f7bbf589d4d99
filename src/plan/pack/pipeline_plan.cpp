// How a step becomes packs. In this order, a file each:
//
// - length_tree: what is there? Nodes with rows and edges, samples as paths, from a length file or from step_tree.
// - slicer: what does a set of samples cost as one pack, and where do its slices end?
// - deal: what stays together (atoms, by the loss; clusters, by what is shared), and which replica gets what? Clusters
//   by cost, longest first, whole or in bundles, then single atoms.
// - bundle: what is moved around: sets of samples that know which nodes they share, and bins with targets that count
//   such nodes once.
// - ranking: which bin has the most room, which replica is slowest, where there are thousands.
// - draft: a replica's packs while they are planned, and their price: the simulated makespan (schedule/program).
// - replica_search: which packs, in which order and slices, for one replica? A candidate is six numbers, packs follow
//   from them (replica_search_build); downhill from a few starts, one number at a time.
// - portfolio: all packs whole, or all in slices? Both for every replica, each from what won before it; one is dropped
//   as soon as it is hopeless.
// - layer_search: would other stages be faster? Single layers moved between runs, where a plan may choose them.
// - local_search: what small change makes the slowest replica faster? Samples, order and slice ends, drawn by chance,
//   judged by the simulator, for as long as the effort lasts.
//
// plan_pipeline below asks them in that order and turns refusals into advice. Effort is counted in simulated
// operations, never in time, so that every machine ends at the same plan.
//
// The numbers in these files are chosen by what they do to the simulated step; a comment beside each says what another
// one did. Figures are of the 24 plans of bench/packing_quality.py, of steps without a pipeline (step_forest_quality),
// of 4 to 20 samples on 1 to 4 stages, and of thousands of samples. Another seed of the local search makes one plan up
// to 0.7 % longer or shorter and the mean of the 24 up to 0.03 %: less than that says nothing.

#include "src/plan/pack/pipeline_plan.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/core/checksum.hpp"
#include "src/core/index.hpp"
#include "src/plan/pack/deal.hpp"
#include "src/plan/pack/draft.hpp"
#include "src/plan/pack/portfolio.hpp"
#include "src/plan/pack/slicer.hpp"

namespace fpdist::plan {
namespace {

PackProblem make_problem(const LengthTree& tree, const StageCosts& costs, const PlannerOptions& options) {
  const ParallelOptions& parallel = options.parallel;
  PackProblem problem{tree,
                      costs,
                      parallel.schedule,
                      parallel.pp,
                      parallel.virtual_stages,
                      options.max_tokens,
                      most_rows_in_flight(options),
                      options.may_slice,
                      false,
                      stage_layers(layer_work(costs, tree.unique()), parallel),
                      {},
                      {}};
  problem.atom_of = atoms_of(tree, options.atomic);
  problem.cluster_of = clusters_of(tree, costs, options.replicas, options.max_tokens, problem.atom_of);
  return problem;
}

void check_fits(const PackProblem& problem) {
  Slicer slicer(problem.tree, problem.costs);
  int64_t needed = 0;
  int32_t line = 0;
  for (const auto& atom : by_label(problem.atom_of, all_samples(problem.tree))) {
    const int64_t rows = slicer.whole(atom).rows;
    if (rows > needed) needed = rows, line = problem.tree.sample[index(atom[0])].line;
  }
  const int64_t name = problem.tree.id.empty() ? line : problem.tree.id[index(line)];
  check<ConfigError>(needed <= problem.most_rows, "group ", name, " needs ", needed,
                     " rows in one pack, pack.max_tokens is ", problem.most_rows, ": set pack.max_tokens to at least ",
                     needed, " or drop the group");
}

/// The largest number of stages that interleaving could have; 1: none.
int most_stages(const LengthTree& tree, const StageCosts& costs, PlannerOptions options) {
  options.effort = 0;
  options.search_layers = false;
  options.parallel.layers.clear();
  while (--options.parallel.pp > 1) {
    PackProblem problem = make_problem(tree, costs, options);
    Pricer pricer(problem);
    if (best_portfolio(problem, pricer, options).makespan() != kNever) break;
  }
  return options.parallel.pp;
}

/// The best portfolio, where nothing else helps with empty packs.
Portfolio best_or_filled_up(PackProblem& problem, Pricer& pricer, const PlannerOptions& options) {
  Portfolio best = best_portfolio(problem, pricer, options);
  if (best.makespan() != kNever || !options.may_fill_up || problem.schedule != Schedule::kInterleaved) return best;
  problem.fills_up = true;
  PlannerOptions quick = options;
  quick.effort = 0;
  return best_portfolio(problem, pricer, quick);
}

/// Rows in flight with which there is a plan, from those that the refused drafts would have needed upwards; kNever:
/// none. Every try plans the whole step: of a large one few, after which the answer is up to an eighth too much.
int64_t rows_needed(const LengthTree& tree, const StageCosts& costs, PlannerOptions options, int64_t needed) {
  constexpr size_t kSamplesOfTries = size_t{1} << 17;
  options.effort = 0;
  options.search_layers = false;
  for (size_t tried = 0; needed != kNever; tried += tree.sample.size()) {
    options.max_in_flight = needed;
    PackProblem problem = make_problem(tree, costs, options);
    Pricer pricer(problem);
    const Portfolio portfolio = best_or_filled_up(problem, pricer, options);
    if (portfolio.makespan() != kNever) break;
    needed = portfolio.rows_needed();
    if (tried > kSamplesOfTries && needed != kNever) needed += needed / 8;
  }
  return needed;
}

[[noreturn]] void refuse(const PackProblem& problem, const Portfolio& portfolio, const PlannerOptions& options) {
  const int64_t needed = rows_needed(problem.tree, problem.costs, options, portfolio.rows_needed());
  check<ConfigError>(needed == kNever, "pack.max_in_flight is ", options.max_in_flight,
                     ": no packs keep that few rows in flight, set it to at least ", needed);
  const int most = most_stages(problem.tree, problem.costs, options);
  throw ConfigError(text("no packs of at most ", options.max_tokens, " rows make a multiple of ", problem.stages,
                         " units, which interleaving needs: ",
                         most > 1 ? text("set parallel.pp to at most ", most) : "use the 1f1b or zb-h1 schedule",
                         options.may_slice ? "" : ", or let packs be sliced"));
}

}  // namespace

PipelinePlan plan_pipeline(const LengthTree& tree, const StageCosts& costs, const PlannerOptions& options) {
  const std::string reason = why_not(shape_of(options, {}));
  check<ConfigError>(reason.empty(), reason);
  check<ConfigError>(options.replicas >= 1, "parallel.dp is ", options.replicas, ": set it to 1 or more");
  PackProblem problem = make_problem(tree, costs, options);
  check_fits(problem);
  Pricer pricer(problem);
  Portfolio best = best_or_filled_up(problem, pricer, options);
  if (best.makespan() == kNever) refuse(problem, best, options);
  PipelinePlan plan;
  plan.layers = problem.layers;
  plan.step = best.makespan();
  plan.effort = pricer.effort();
  plan.budget = search_budget(problem, options);
  for (ReplicaDraft& draft : best.replica) {
    PlannedReplica& replica = plan.replica.emplace_back();
    replica.window = draft.window;
    replica.makespan = draft.makespan;
    for (PackDraft& pack : draft.pack) replica.pack.push_back({std::move(pack.sample), std::move(pack.work)});
  }
  return plan;
}

int64_t in_flight_needed(const LengthTree& tree, const StageCosts& costs, PlannerOptions options) {
  options.effort = 0;
  options.search_layers = false;
  PackProblem problem = make_problem(tree, costs, options);
  check_fits(problem);
  Pricer pricer(problem);
  const Portfolio best = best_or_filled_up(problem, pricer, options);
  if (best.makespan() != kNever) return 0;
  const int64_t needed = rows_needed(tree, costs, options, best.rows_needed());
  if (needed == kNever) refuse(problem, best, options);
  return needed;
}

int64_t most_rows_in_flight(const PlannerOptions& options) {
  const int64_t p = options.parallel.pp, v = options.parallel.virtual_stages;
  const bool is_interleaved = options.parallel.schedule == Schedule::kInterleaved;
  const int64_t whole_packs =
      is_interleaved ? (((v - 1) * p + 2 * (p - 1) + 1) * options.max_tokens + v - 1) / v : p * options.max_tokens;
  return options.max_in_flight > 0 ? std::min(options.max_in_flight, whole_packs) : whole_packs;
}

uint64_t hash_of(const PipelinePlan& plan) {
  Checksum sum;
  sum.add(std::span<const int64_t>(plan.layers)).add(plan.step);
  for (const PlannedReplica& replica : plan.replica) {
    sum.add(replica.window).add(static_cast<uint64_t>(replica.pack.size()));
    for (const PlannedPack& pack : replica.pack) {
      sum.add(std::span<const int32_t>(pack.sample));
      for (const Amount& slice : pack.slice) sum.add(slice.rows).add(slice.pairs).add(slice.edges);
    }
  }
  return sum.value().low;
}

PipelineShape shape_of(const PlannerOptions& options, const PlannedReplica& replica) {
  PipelineShape shape{
      options.parallel.schedule, options.parallel.pp, options.parallel.virtual_stages, {}, replica.window};
  for (const PlannedPack& pack : replica.pack) shape.slices.push_back(static_cast<int>(pack.slice.size()));
  return shape;
}

std::vector<UnitCost> unit_costs(const StageCosts& costs, const PlannedReplica& replica) {
  std::vector<UnitCost> units;
  for (const PlannedPack& pack : replica.pack)
    for (const Amount& slice : pack.slice) units.push_back(unit_cost(costs, slice));
  return units;
}

}  // namespace fpdist::plan
