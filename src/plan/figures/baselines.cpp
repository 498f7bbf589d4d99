#include "src/plan/figures/baselines.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <numeric>
#include <vector>

#include "src/core/index.hpp"
#include "src/plan/pack/bundle.hpp"
#include "src/plan/pack/slicer.hpp"
#include "src/plan/schedule/program.hpp"

namespace fpdist::plan {
namespace {

using Samples = std::vector<int32_t>;

/// The tree with every sample a line of its own: all tokens above its last node, then that node.
LengthTree unshared(const LengthTree& tree) {
  LengthTree apart;
  for (const LengthSample& sample : tree.sample) {
    const LengthNode& last = tree.node[index(sample.node)];
    const auto at = static_cast<int32_t>(apart.node.size());
    int64_t edges = sample.edges;
    for (int32_t n = sample.node; n >= 0; n = tree.node[index(n)].parent) edges += tree.node[index(n)].edges;
    apart.node.push_back({.parent = -1, .rows = last.above});
    apart.node.push_back({.parent = at, .rows = last.rows, .above = last.above});
    apart.sample.push_back({at + 1, apart.lines++, edges});
  }
  return apart;
}

/// What stays together if the cap allows it: lines, but below a line that holds everything its subtrees.
std::vector<Samples> groups_of(const LengthTree& tree) {
  std::vector<int32_t> top(tree.node.size());
  for (size_t n = 0; n < tree.node.size(); ++n) {
    const int32_t parent = tree.node[n].parent;
    const bool starts = parent < 0 || (tree.lines == 1 && tree.node[index(parent)].parent < 0);
    top[n] = starts ? static_cast<int32_t>(n) : top[index(parent)];
  }
  std::vector<Samples> groups;
  int32_t last = -1;
  for (size_t s = 0; s < tree.sample.size(); ++s) {
    const int32_t group = top[index(tree.sample[s].node)];
    if (group != last) groups.emplace_back();
    groups.back().push_back(static_cast<int32_t>(s));
    last = group;
  }
  return groups;
}

class Baseliner {
 public:
  Baseliner(Baseline kind, const LengthTree& tree, const StageCosts& costs, const PlannerOptions& options, int64_t cap)
      : kind_(kind),
        tree_(tree),
        costs_(costs),
        options_(options),
        cap_(cap),
        everything_(tree.sample.size()),
        scope_(tree, costs, numbered()) {}

  int64_t step(const std::vector<int64_t>& layers) {
    const std::vector<Bundle> bundles = bundles_that_fit();
    if (bundles.empty()) return 0;
    int64_t slowest = 0;
    Slicer slicer(tree_, costs_);
    std::vector<std::vector<Samples>> replicas =
        kind_ == Baseline::kReplicaFirstFit ? in_turn(bundles) : dealt(first_fit(bundles, true));
    for (std::vector<Samples>& packs : replicas) {
      std::vector<UnitCost> units;
      for (const Samples& pack : packs) units.push_back(unit_cost(costs_, slicer.whole(pack)));
      if (kind_ != Baseline::kReplicaFirstFit) units = hump(std::move(units));
      const size_t stages = index(options_.parallel.pp);
      while (options_.parallel.schedule == Schedule::kInterleaved && units.size() % stages != 0)
        units.push_back(unit_cost(costs_, {}));
      Program program({options_.parallel.schedule, options_.parallel.pp, options_.parallel.virtual_stages,
                       std::vector<int>(units.size(), 1), 1});
      slowest = std::max(slowest, program.makespan(units, layers));
    }
    return slowest;
  }

 private:
  Samples& numbered() {
    std::iota(everything_.begin(), everything_.end(), 0);
    return everything_;
  }

  std::vector<Bundle> bundles_that_fit() {
    std::vector<Bundle> all;
    for (const Samples& group : groups_of(tree_)) {
      std::vector<Samples> atoms;
      for (const int32_t s : group) atoms.push_back({s});
      const bool stays = options_.atomic == Atomic::kLines || (options_.atomic == Atomic::kPairs && group.size() == 2);
      if (stays) atoms = {group};
      Splits splits(std::move(atoms));
      const std::vector<Bundle>& parts = splits.within(scope_, {cap_, std::numeric_limits<int64_t>::max()});
      if (std::any_of(parts.begin(), parts.end(), [&](const Bundle& one) { return one.alone.rows > cap_; })) return {};
      all.insert(all.end(), parts.begin(), parts.end());
    }
    return all;
  }

  std::vector<Samples> first_fit(std::vector<Bundle> bundles, bool decreasing) {
    if (decreasing)
      std::stable_sort(bundles.begin(), bundles.end(),
                       [](const Bundle& a, const Bundle& b) { return a.alone.rows > b.alone.rows; });
    const OwnNumbers own(scope_, std::move(bundles));
    int64_t rows = 0;
    for (const Bundle& bundle : own.bundle) rows += bundle.alone.rows;
    // Of two packs of a first fit, the second's first bundle did not fit into the first: together they exceed one.
    Bins packs(own.shared, std::vector<int64_t>(index(2 * rows / cap_ + 2)), cap_);
    packs.first_fit(own.pointers());
    std::vector<Samples> result;
    for (size_t pack = 0; pack < packs.load().size() && !packs.content()[pack].empty(); ++pack)
      result.push_back(packs.samples(pack));
    return result;
  }

  std::vector<std::vector<Samples>> in_turn(const std::vector<Bundle>& bundles) {
    std::vector<std::vector<Bundle>> dealt(index(options_.replicas));
    for (size_t i = 0; i < bundles.size(); ++i) dealt[i % dealt.size()].push_back(bundles[i]);
    std::vector<std::vector<Samples>> replicas;
    for (auto& mine : dealt) replicas.push_back(first_fit(std::move(mine), false));
    return replicas;
  }

  /// Packs by cost, costliest first, to the least loaded replica.
  std::vector<std::vector<Samples>> dealt(const std::vector<Samples>& packs) {
    Slicer slicer(tree_, costs_);
    std::vector<std::pair<int64_t, size_t>> by_cost;
    for (size_t i = 0; i < packs.size(); ++i) by_cost.emplace_back(-total_work(costs_, slicer.whole(packs[i])), i);
    std::sort(by_cost.begin(), by_cost.end());
    std::vector<std::vector<Samples>> replicas(index(options_.replicas));
    std::vector<int64_t> load(replicas.size());
    for (const auto& [cost, i] : by_cost) {
      const auto least = index(std::min_element(load.begin(), load.end()) - load.begin());
      load[least] -= cost;
      replicas[least].push_back(packs[i]);
    }
    return replicas;
  }

  /// Units in an order with small ones at both ends.
  static std::vector<UnitCost> hump(std::vector<UnitCost> units) {
    std::stable_sort(units.begin(), units.end(),
                     [](const UnitCost& a, const UnitCost& b) { return a.layer[kInputPass] < b.layer[kInputPass]; });
    std::vector<UnitCost> front, back;
    for (size_t i = 0; i < units.size(); ++i) (i % 2 ? back : front).push_back(units[i]);
    front.insert(front.end(), back.rbegin(), back.rend());
    return front;
  }

  Baseline kind_;
  const LengthTree& tree_;
  const StageCosts& costs_;
  const PlannerOptions& options_;
  int64_t cap_;
  Samples everything_;
  Scope scope_;
};

}  // namespace

BaselineResult price_baseline(Baseline kind, const LengthTree& tree, const StageCosts& costs,
                              const PlannerOptions& options, const std::vector<int64_t>& layers, int64_t cap) {
  if (kind != Baseline::kUnshared) return {cap, Baseliner(kind, tree, costs, options, cap).step(layers)};
  const LengthTree apart = unshared(tree);
  PlannerOptions alone = options;
  alone.atomic = Atomic::kSamples;
  return {cap, Baseliner(kind, apart, costs, alone, cap).step(layers)};
}

BaselineResult best_baseline(Baseline kind, const LengthTree& tree, const StageCosts& costs,
                             const PlannerOptions& options, const std::vector<int64_t>& layers, int64_t percent) {
  BaselineResult best;
  for (int64_t cap = options.max_tokens; cap > 0; cap = cap * percent / 100) {
    const BaselineResult one = price_baseline(kind, tree, costs, options, layers, cap);
    if (one.step == 0) break;  // the longest sample no longer fits
    if (best.step == 0 || one.step < best.step) best = one;
  }
  return best;
}

}  // namespace fpdist::plan
