#include "fpdist/plan/pipeline_plan.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/plan/draft.hpp"
#include "src/plan/layer_search.hpp"
#include "src/plan/local_search.hpp"
#include "src/plan/pieces.hpp"
#include "src/plan/replica_search.hpp"

namespace fpdist::plan {
namespace {

/// Simulated operations of a plan, more for each sample above 1024. What the search for candidates leaves is for the
/// local search.
constexpr int64_t kEffort = 2300000, kEffortOfSample = 1000;
constexpr int64_t kFew = 24;  // samples: so few that a search can be stuck

size_t index(int32_t i) { return static_cast<size_t>(i); }

/// [samples] the first sample of its atom.
std::vector<int32_t> atoms_of(const LengthTree& tree, Atomic atomic) {
  std::vector<int32_t> atom(tree.sample.size());
  for (size_t begin = 0, end = 0; begin < atom.size(); begin = end) {
    while (end < atom.size() && tree.sample[end].line == tree.sample[begin].line) ++end;
    const bool stays = atomic == Atomic::kLines || (atomic == Atomic::kPairs && end - begin == 2);
    for (size_t s = begin; s < end; ++s) atom[s] = static_cast<int32_t>(stays ? begin : s);
  }
  return atom;
}

/// Clusters: lines, and where a line is more than a replica's fair share, the subtrees below its root, and so on.
/// An atom is never opened.
std::vector<int32_t> clusters_of(const LengthTree& tree, const StageCosts& costs, int replicas,
                                 const std::vector<int32_t>& atom_of) {
  std::vector<int64_t> below(tree.node.size());
  for (const LengthSample& sample : tree.sample) below[index(sample.node)] += total_work(costs, {0, 0, sample.edges});
  int64_t total = 0;
  for (size_t n = tree.node.size(); n-- > 0;) {
    below[n] += total_work(costs, tree.node[n].work());
    if (tree.node[n].parent >= 0) {
      below[index(tree.node[n].parent)] += below[n];
    } else {
      total += below[n];
    }
  }
  std::vector<bool> is_atom(tree.node.size());  // the root of a line that stays together
  for (size_t s = 1; s < tree.sample.size(); ++s) {
    if (atom_of[s] != atom_of[s - 1]) continue;
    int32_t root = tree.sample[s].node;
    while (tree.node[index(root)].parent >= 0) root = tree.node[index(root)].parent;
    is_atom[index(root)] = true;
  }
  std::vector<int32_t> top(tree.node.size());  // the node that names the cluster; an open node names itself
  std::vector<bool> is_open(tree.node.size());
  for (size_t n = 0; n < tree.node.size(); ++n) {
    const int32_t parent = tree.node[n].parent;
    const bool starts = parent < 0 || is_open[index(parent)];
    top[n] = starts ? static_cast<int32_t>(n) : top[index(parent)];
    is_open[n] = starts && below[n] > total / replicas && !is_atom[n];
  }
  std::vector<int32_t> cluster;
  for (const LengthSample& sample : tree.sample) cluster.push_back(top[index(sample.node)]);
  return cluster;
}

Problem make_problem(const LengthTree& tree, const StageCosts& costs, const PlannerOptions& options) {
  const ParallelOptions& parallel = options.parallel;
  Problem problem{tree,
                  costs,
                  parallel.schedule,
                  parallel.pp,
                  parallel.virtual_stages,
                  options.max_tokens,
                  most_rows_in_flight(options),
                  options.may_slice,
                  stage_layers(layer_work(costs, tree.unique()), parallel),
                  {},
                  {}};
  problem.atom_of = atoms_of(tree, options.atomic);
  problem.cluster_of = clusters_of(tree, costs, options.replicas, problem.atom_of);
  return problem;
}

std::vector<std::vector<int32_t>> by_label(const std::vector<int32_t>& label) {
  std::vector<std::vector<int32_t>> all;
  for (size_t s = 0; s < label.size(); ++s) {
    if (s == 0 || label[s] != label[s - 1]) all.emplace_back();
    all.back().push_back(static_cast<int32_t>(s));
  }
  return all;
}

/// A cluster that no pack holds is dealt in pieces that fit, each with all of its ancestors: that is what it will cost.
std::vector<Piece> pieces_that_fit(Scope& scope, const Problem& problem, const std::vector<int32_t>& samples) {
  std::vector<std::vector<int32_t>> atoms;
  for (const int32_t s : samples) {
    const int32_t atom = problem.atom_of[index(s)];
    if (atoms.empty() || problem.atom_of[index(atoms.back()[0])] != atom) atoms.emplace_back();
    atoms.back().push_back(s);
  }
  const auto fits = [&](const Piece& piece) { return piece.alone.rows <= problem.most_rows; };
  std::vector<Piece> parts = split_evenly(scope, atoms, 1);
  for (size_t count = 2; count <= atoms.size() && !std::all_of(parts.begin(), parts.end(), fits); ++count)
    parts = split_evenly(scope, atoms, count);
  for (Piece& part : parts)
    if (parts.size() > 1) part.own = part.alone, part.shared.clear();
  return parts;
}

/// Clusters to replicas by cost; then, where they may be torn, single samples to even out what is left.
std::vector<std::vector<int32_t>> deal(const Problem& problem, const PlannerOptions& options) {
  std::vector<int32_t> all(problem.tree.sample.size());
  std::iota(all.begin(), all.end(), 0);
  Scope scope(problem.tree, problem.costs, all);
  std::vector<Piece> whole, single;
  for (const auto& samples : by_label(problem.cluster_of)) {
    std::vector<Piece> parts = pieces_that_fit(scope, problem, samples);
    const bool is_torn = parts.size() > 1;
    if (is_torn) single.insert(single.end(), parts.begin(), parts.end());
    for (size_t i = 0; i < samples.size() && !is_torn; ++i) {
      std::vector<int32_t> atom{samples[i]};
      while (i + 1 < samples.size() && problem.atom_of[index(samples[i + 1])] == problem.atom_of[index(atom[0])])
        atom.push_back(samples[++i]);
      single.push_back(scope.piece(std::move(atom)));
    }
    std::move(parts.begin(), parts.end(), std::back_inserter(whole));
  }
  const auto replicas = static_cast<size_t>(options.replicas);
  const std::vector<int64_t> share(replicas);
  std::vector<const Piece*> pointers;
  for (const Piece& piece : whole) pointers.push_back(&piece);
  Bins coarse(scope.shared(), share, kNever);
  coarse.fill(pointers);
  coarse.refine(8 * options.replicas);

  std::vector<size_t> bin_of(all.size());
  for (size_t bin = 0; bin < replicas; ++bin)
    for (const int32_t s : coarse.samples(bin)) bin_of[index(s)] = bin;
  Bins fine(scope.shared(), share, kNever);
  for (const Piece& piece : single) fine.add(piece, bin_of[index(piece.sample[0])]);
  fine.refine(4 * options.replicas);
  std::vector<std::vector<int32_t>> dealt;
  for (size_t bin = 0; bin < replicas; ++bin) dealt.push_back(fine.samples(bin));
  return dealt;
}

void check_fits(const Problem& problem) {
  Slicer slicer(problem.tree, problem.costs);
  int64_t needed = 0;
  int32_t line = 0;
  for (const auto& atom : by_label(problem.atom_of)) {
    const int64_t rows = slicer.whole(atom).rows;
    if (rows > needed) needed = rows, line = problem.tree.sample[index(atom[0])].line;
  }
  check<ConfigError>(needed <= problem.most_rows, "group ", line, " needs ", needed,
                     " rows in one pack, pack.max_tokens is ", problem.most_rows, ": set pack.max_tokens to at least ",
                     needed, " or drop the group");
}

/// A step that is being planned.
struct Draft {
  std::vector<ReplicaDraft> replica;
  int64_t makespan() const {
    int64_t slowest = 0;
    for (const ReplicaDraft& one : replica) slowest = std::max(slowest, one.makespan);
    return slowest;
  }
};

/// Whether the first cannot catch up with the second any more: no local search has been seen to gain as much.
bool is_hopeless(int64_t makespan, int64_t other, int64_t parts) {
  return makespan > other && makespan - other > other / parts;
}

/// All packs whole, or packs in slices: two searches, as from one the other is seldom found. What suited the replicas
/// so far is where the search for the next one starts.
class Family {
 public:
  explicit Family(bool sliced) : sliced_(sliced) {}

  int64_t makespan() const {
    int64_t slowest = 0;
    for (const ReplicaDraft& one : replica) slowest = std::max(slowest, one.makespan);
    return slowest;
  }

  /// Plans one more replica (null: one without samples).
  void add(ReplicaSearch* search, int64_t most_effort) {
    ReplicaDraft& draft = replica.emplace_back();
    draft.makespan = search ? kNever : 0;
    if (!search) return;
    constexpr int kTries = 6;
    constexpr size_t kStarts = 3;
    Found found = search->descend(won_, kTries, most_effort);
    if (found.draft.makespan == kNever) {
      std::vector<Found> all = search->run(sliced_, 16 * kTries, most_effort);
      if (all.empty()) return;
      for (const Found& one : all)
        if (!is_hopeless(one.draft.makespan, all[0].draft.makespan, 50)) won_.push_back(one.candidate);
      found = std::move(all[0]);
    }
    // The latest winner first; what has not won for long is forgotten.
    const auto before = std::find(won_.begin(), won_.end(), found.candidate);
    if (before != won_.end()) won_.erase(before);
    won_.insert(won_.begin(), found.candidate);
    if (won_.size() > kStarts) won_.pop_back();
    draft = std::move(found.draft);
  }

  std::vector<ReplicaDraft> replica;
  std::vector<int64_t> layers;  ///< empty: by cost

 private:
  bool sliced_;
  std::vector<Candidate> won_;
};

Family best_family(Problem& problem, Pricer& pricer, const PlannerOptions& options) {
  std::vector<Family> families;
  for (const bool sliced : {false, true})
    if (!sliced || options.may_slice) families.emplace_back(sliced);
  const auto drop_hopeless = [&](int64_t parts) {
    for (size_t f = families.size(); families.size() > 1 && f-- > 0;)
      if (is_hopeless(families[f].makespan(), families[1 - f].makespan(), parts))
        families.erase(families.begin() + static_cast<std::ptrdiff_t>(f));
  };
  const auto samples = static_cast<int64_t>(problem.tree.sample.size());
  const int64_t effort =
      std::min(kEffort, samples * kEffort / 16) + std::max<int64_t>(0, samples - 1024) * kEffortOfSample;
  const std::vector<std::vector<int32_t>> dealt = deal(problem, options);
  for (size_t r = 0; r < dealt.size(); ++r) {
    std::unique_ptr<ReplicaSearch> search;
    if (!dealt[r].empty()) search = std::make_unique<ReplicaSearch>(problem, pricer, dealt[r]);
    // Two thirds of the effort at most; the first replica, which has to start from nothing, gets three shares.
    const int64_t share = effort * 2 / 3 * static_cast<int64_t>(r + 3) / static_cast<int64_t>(dealt.size() + 2);
    for (size_t f = 0; f < families.size(); ++f) {
      const int64_t spent = pricer.effort(), left = std::max<int64_t>(0, share - spent);
      families[f].add(search.get(), spent + left / static_cast<int64_t>(families.size() - f));
    }
    drop_hopeless(20);
  }
  const bool improves_layers = options.search_layers && options.parallel.layers.empty();
  const std::vector<int64_t> by_cost = problem.layers;
  const auto refine = [&](Family& family, int64_t effort) {
    problem.layers = family.layers.empty() ? by_cost : family.layers;
    if (improves_layers && family.layers.empty()) improve_layers(problem, pricer, family.replica);
    LocalSearch search(problem, pricer, family.replica);
    samples <= kFew ? search.run_with_shakes(effort) : search.run(effort);
    family.layers = problem.layers;
  };
  if (families.size() > 1) {
    for (Family& family : families) refine(family, options.effort * effort / 8);
    drop_hopeless(kNever);
  }
  const int64_t left = options.effort * effort - pricer.effort();
  refine(families[0], options.effort > 0 ? std::max(left, effort / 8) : 0);
  return std::move(families[0]);
}

}  // namespace

PipelinePlan plan_pipeline(const LengthTree& tree, const StageCosts& costs, const PlannerOptions& options) {
  Problem problem = make_problem(tree, costs, options);
  check_fits(problem);
  Pricer pricer(problem);
  Family best = best_family(problem, pricer, options);
  check<ConfigError>(best.makespan() != kNever, "no packs of at most ", options.max_tokens, " rows make a multiple of ",
                     problem.stages, " units: raise pack.max_tokens or use the 1f1b schedule");
  PipelinePlan plan;
  plan.layers = problem.layers;
  plan.step = best.makespan();
  plan.effort = pricer.effort();
  for (ReplicaDraft& draft : best.replica) {
    PlannedReplica& replica = plan.replica.emplace_back();
    replica.window = draft.window;
    replica.makespan = draft.makespan;
    for (PackDraft& pack : draft.pack) replica.pack.push_back({std::move(pack.sample), std::move(pack.work)});
  }
  return plan;
}

int64_t most_rows_in_flight(const PlannerOptions& options) {
  const int64_t p = options.parallel.pp, v = options.parallel.virtual_stages;
  if (options.parallel.schedule != Schedule::kInterleaved) return p * options.max_tokens;
  return ((v - 1) * p + 2 * (p - 1) + 1) * options.max_tokens / v;
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
    for (const Work& slice : pack.slice) units.push_back(unit_cost(costs, slice));
  return units;
}

}  // namespace fpdist::plan
