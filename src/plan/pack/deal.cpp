#include "src/plan/pack/deal.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <numeric>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "src/core/index.hpp"
#include "src/plan/pack/bundle.hpp"

namespace fpdist::plan {
namespace {

/// A cluster in bundles of at most `most_cost` that fit. One that no pack holds is torn for good: its bundles have all
/// of their ancestors to themselves, as that is what they will cost.
std::vector<Bundle> bundles_of(Scope& scope, const PackProblem& problem, Splits& cluster, int64_t most_cost,
                               bool& is_torn) {
  is_torn = cluster.into(scope, 1)[0].alone.rows > problem.most_rows;
  std::vector<Bundle> parts = cluster.within(scope, {problem.most_rows, most_cost});
  for (Bundle& part : parts)
    if (is_torn && parts.size() > 1) part.own = part.alone, part.shared.clear();
  return parts;
}

/// The deepest node that both paths have; -1: none.
int32_t common_node(const LengthTree& tree, int32_t a, int32_t b) {
  while (a != b && a >= 0 && b >= 0) (a > b ? a : b) = tree.node[index(std::max(a, b))].parent;
  return a == b ? a : -1;
}

}  // namespace

std::vector<int32_t> atoms_of(const LengthTree& tree, Atomic atomic) {
  std::vector<int32_t> atom(tree.sample.size()), first(index(tree.lines), -1), size(index(tree.lines), 0);
  for (const LengthSample& sample : tree.sample) ++size[index(sample.line)];
  for (size_t s = 0; s < atom.size(); ++s) {
    const size_t line = index(tree.sample[s].line);
    const bool stays = atomic == Atomic::kLines || (atomic == Atomic::kPairs && size[line] == 2);
    if (first[line] < 0) first[line] = static_cast<int32_t>(s);
    atom[s] = stays ? first[line] : static_cast<int32_t>(s);
  }
  return atom;
}

std::vector<int32_t> clusters_of(const LengthTree& tree, const StageCosts& costs, int replicas, int64_t most_rows,
                                 const std::vector<int32_t>& atom_of) {
  std::vector<Weight> below(tree.node.size());
  std::vector<bool> has_groups(tree.node.size()), has_children(tree.node.size());
  for (const LengthSample& sample : tree.sample)
    below[index(sample.node)] += {0, total_work(costs, {0, 0, sample.edges})};
  int64_t total = 0;
  for (size_t n = tree.node.size(); n-- > 0;) {
    const LengthNode& node = tree.node[n];
    below[n] += {node.rows, total_work(costs, node.work())};
    if (node.parent < 0) {
      total += below[n].cost;
      continue;
    }
    below[index(node.parent)] += below[n];
    has_children[index(node.parent)] = true;
    if (has_children[n]) has_groups[index(node.parent)] = true;
  }
  std::vector<bool> is_atom(tree.node.size());          // where the samples of what stays together part: never opened
  std::vector<int32_t> before(tree.sample.size(), -1);  // by atom: its sample before this one
  for (size_t s = 0; s < tree.sample.size(); ++s) {
    const int32_t other = std::exchange(before[index(atom_of[s])], static_cast<int32_t>(s));
    if (other < 0) continue;
    const int32_t node = common_node(tree, tree.sample[index(other)].node, tree.sample[s].node);
    if (node >= 0) is_atom[index(node)] = true;
  }
  std::vector<int32_t> top(tree.node.size());  // the node that names the cluster; an open node names itself
  std::vector<bool> is_open(tree.node.size());
  for (size_t n = 0; n < tree.node.size(); ++n) {
    const int32_t parent = tree.node[n].parent;
    const bool starts = parent < 0 || is_open[index(parent)];
    top[n] = starts ? static_cast<int32_t>(n) : top[index(parent)];
    const bool is_large = below[n].cost > total / replicas || tree.node[n].above + below[n].rows > most_rows;
    is_open[n] = starts && is_large && has_groups[n] && !is_atom[n];
  }
  std::vector<int32_t> cluster;
  for (size_t s = 0; s < tree.sample.size(); ++s)  // samples of one atom may have different roots
    cluster.push_back(top[index(tree.sample[index(atom_of[s])].node)]);
  return cluster;
}

std::vector<std::vector<int32_t>> by_label(const std::vector<int32_t>& label, std::span<const int32_t> samples) {
  std::vector<std::vector<int32_t>> all;
  std::unordered_map<int32_t, size_t> place;
  size_t last = 0;  // labels mostly come in runs
  for (const int32_t s : samples) {
    const int32_t wanted = label[index(s)];
    if (all.empty() || label[index(all[last][0])] != wanted) {
      const auto [entry, is_new] = place.try_emplace(wanted, all.size());
      if (is_new) all.emplace_back();
      last = entry->second;
    }
    all[last].push_back(s);
  }
  return all;
}

std::vector<int32_t> all_samples(const LengthTree& tree) {
  std::vector<int32_t> all(tree.sample.size());
  std::iota(all.begin(), all.end(), 0);
  return all;
}

namespace {

/// Moves and swaps a replica: limits, as refining ends where the gap no longer narrows (2 and 1 are enough for nearly
/// all steps measured). Without any, steps are up to 3.6 % longer.
constexpr int kCoarseRounds = 8, kFineRounds = 4;

/// One way to deal: clusters in bundles of at most `most_cost`, longest first, then single atoms to even out the rest.
class Deal {
 public:
  Deal(const PackProblem& problem, Scope& scope, int replicas, int64_t most_cost)
      : share_(index(replicas)), fine_(scope.shared(), share_, kNever) {
    const std::vector<int32_t> all = all_samples(problem.tree);
    for (const auto& samples : by_label(problem.cluster_of, all)) add_cluster(problem, scope, samples, most_cost);
    std::vector<const Bundle*> pointers;
    for (const Bundle& bundle : whole_) pointers.push_back(&bundle);
    Bins coarse(scope.shared(), share_, kNever);
    coarse.fill(pointers);
    coarse.refine(kCoarseRounds * replicas);
    std::vector<size_t> bin_of(all.size());
    for (size_t bin = 0; bin < share_.size(); ++bin)
      for (const int32_t s : coarse.samples(bin)) bin_of[index(s)] = bin;
    for (const Bundle& bundle : single_) fine_.add(bundle, bin_of[index(bundle.sample[0])]);
    fine_.refine(kFineRounds * replicas);
  }
  int64_t slowest() const {
    int64_t most = 0;
    for (const Weight& load : fine_.load()) most = std::max(most, load.cost);
    return most;
  }
  int64_t largest() const { return largest_; }
  std::vector<std::vector<int32_t>> samples() const {
    std::vector<std::vector<int32_t>> dealt;
    for (size_t bin = 0; bin < share_.size(); ++bin) dealt.push_back(fine_.samples(bin));
    return dealt;
  }

 private:
  void add_cluster(const PackProblem& problem, Scope& scope, const std::vector<int32_t>& samples, int64_t most_cost) {
    Splits cluster(by_label(problem.atom_of, samples));
    bool is_torn = false;
    std::vector<Bundle> parts = bundles_of(scope, problem, cluster, most_cost, is_torn);
    if (cluster.atoms() > 1)
      for (const Bundle& part : parts) largest_ = std::max(largest_, part.alone.cost);
    if (is_torn)
      single_.insert(single_.end(), parts.begin(), parts.end());
    else
      for (const auto& atom : cluster.atom()) single_.push_back(scope.bundle(atom));
    std::move(parts.begin(), parts.end(), std::back_inserter(whole_));
  }

  std::vector<int64_t> share_;
  std::vector<Bundle> whole_, single_;
  Bins fine_;
  int64_t largest_ = 0;
};

}  // namespace

std::vector<std::vector<int32_t>> deal(const PackProblem& problem, int replicas) {
  const std::vector<int32_t> all = all_samples(problem.tree);
  Scope scope(problem.tree, problem.costs, all);
  Deal whole(problem, scope, replicas, kNever);
  std::vector<std::vector<int32_t>> best = whole.samples();
  int64_t slowest = whole.slowest();
  // A cluster that is much of a replica's share leaves the others waiting; in bundles, each has its own ancestors.
  // Three groups of 64 samples on 8 replicas: without, steps are up to 15 % longer; without quarters 7 %.
  const int64_t share = scope.total().cost / replicas;
  for (const int64_t most_cost : {share, share / 2, share / 4}) {
    if (whole.largest() <= most_cost) continue;
    const Deal torn(problem, scope, replicas, most_cost);
    if (torn.slowest() < slowest) best = torn.samples(), slowest = torn.slowest();
  }
  return best;
}

}  // namespace fpdist::plan
