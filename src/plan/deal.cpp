#include "src/plan/deal.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <numeric>
#include <utility>
#include <vector>

#include "src/plan/pieces.hpp"

namespace fpdist::plan {
namespace {

size_t index(int32_t i) { return static_cast<size_t>(i); }

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

/// The deepest node that both paths have; -1: none.
int32_t common_node(const LengthTree& tree, int32_t a, int32_t b) {
  while (a != b && a >= 0 && b >= 0) (a > b ? a : b) = tree.node[index(std::max(a, b))].parent;
  return a == b ? a : -1;
}

}  // namespace

std::vector<int32_t> atoms_of(const LengthTree& tree, Atomic atomic) {
  std::vector<int32_t> atom(tree.sample.size());
  for (size_t begin = 0, end = 0; begin < atom.size(); begin = end) {
    while (end < atom.size() && tree.sample[end].line == tree.sample[begin].line) ++end;
    const bool stays = atomic == Atomic::kLines || (atomic == Atomic::kPairs && end - begin == 2);
    for (size_t s = begin; s < end; ++s) atom[s] = static_cast<int32_t>(stays ? begin : s);
  }
  return atom;
}

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
  std::vector<bool> is_atom(tree.node.size());  // where the samples of what stays together part: never opened
  for (size_t s = 1; s < tree.sample.size(); ++s) {
    if (atom_of[s] != atom_of[s - 1]) continue;
    const int32_t node = common_node(tree, tree.sample[s - 1].node, tree.sample[s].node);
    if (node >= 0) is_atom[index(node)] = true;
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
  for (size_t s = 0; s < tree.sample.size(); ++s)  // samples of one atom may have different roots
    cluster.push_back(top[index(tree.sample[index(atom_of[s])].node)]);
  return cluster;
}

std::vector<std::vector<int32_t>> by_label(const std::vector<int32_t>& label) {
  std::vector<std::vector<int32_t>> all;
  for (size_t s = 0; s < label.size(); ++s) {
    if (s == 0 || label[s] != label[s - 1]) all.emplace_back();
    all.back().push_back(static_cast<int32_t>(s));
  }
  return all;
}

std::vector<std::vector<int32_t>> deal(const Problem& problem, int replicas) {
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
  const auto bins = index(replicas);
  const std::vector<int64_t> share(bins);
  std::vector<const Piece*> pointers;
  for (const Piece& piece : whole) pointers.push_back(&piece);
  Bins coarse(scope.shared(), share, kNever);
  coarse.fill(pointers);
  coarse.refine(8 * replicas);

  std::vector<size_t> bin_of(all.size());
  for (size_t bin = 0; bin < bins; ++bin)
    for (const int32_t s : coarse.samples(bin)) bin_of[index(s)] = bin;
  Bins fine(scope.shared(), share, kNever);
  for (const Piece& piece : single) fine.add(piece, bin_of[index(piece.sample[0])]);
  fine.refine(4 * replicas);
  std::vector<std::vector<int32_t>> dealt;
  for (size_t bin = 0; bin < bins; ++bin) dealt.push_back(fine.samples(bin));
  return dealt;
}

}  // namespace fpdist::plan
