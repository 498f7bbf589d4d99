#include "src/plan/pipeline_packs.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <tuple>

#include "fpdist/plan/cost_model.hpp"
#include "fpdist/plan/pipeline_plan.hpp"

namespace fpdist::plan {
namespace {

size_t index(int64_t i) { return static_cast<size_t>(i); }

/// The step as the planner sees it, and which member each of its samples is.
struct StepTree {
  LengthTree tree;
  std::vector<MemberRef> member;  ///< [tree.sample]
  std::vector<MemberRef> empty;   ///< samples without tokens: they cost nothing and ride along
};

std::vector<MemberRef> members_of(std::span<const data::Group> groups) {
  std::vector<MemberRef> all;
  for (size_t g = 0; g < groups.size(); ++g)
    for (size_t s = 0; s < groups[g].sample.size(); ++s)
      all.push_back({static_cast<int32_t>(g), static_cast<int32_t>(s)});
  return all;
}

/// Samples in order of their nodes, as the planner wants them.
StepTree make_tree(const StepForest& step, std::span<const data::Group> groups) {
  StepTree result;
  for (const prefix::ForestNode& node : step.forest.node)
    result.tree.node.push_back({.parent = node.parent, .rows = node.length, .above = node.depth});
  const std::vector<MemberRef> members = members_of(groups);
  std::vector<int32_t> order(members.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return step.forest.last_node[index(a)] < step.forest.last_node[index(b)];
  });
  for (const int32_t sample : order) {
    const int32_t node = step.forest.last_node[index(sample)];
    const MemberRef& member = members[index(sample)];
    if (node < 0) {
      result.empty.push_back(member);
      continue;
    }
    const LengthNode& last = result.tree.node[index(node)];
    result.tree.sample.push_back(
        {.node = node, .line = member.group, .edges = std::min(step.edges[index(sample)], last.above + last.rows)});
    result.member.push_back(member);
  }
  result.tree.lines = static_cast<int32_t>(groups.size());
  return result;
}

/// Lines are runs of samples. Where groups interleave (two groups with the same prompt), they become one line: what
/// may not be torn then stays together with its neighbours.
void merge_lines(LengthTree& tree) {
  std::vector<size_t> last(index(tree.lines), 0);
  for (size_t s = 0; s < tree.sample.size(); ++s) last[index(tree.sample[s].line)] = s;
  int32_t line = -1;
  size_t until = 0;
  for (size_t s = 0; s < tree.sample.size(); ++s) {
    if (s == 0 || s > until) ++line;
    until = std::max(until, last[index(tree.sample[s].line)]);
    tree.sample[s].line = line;
  }
  tree.lines = line + 1;
}

/// Rows, pairs and edges of a pack, from its nodes.
class PackWork {
 public:
  PackWork(const StepForest& step) : step_(step), seen_(step.forest.node.size(), -1) {}
  Work of(const std::vector<MemberRef>& members) {
    Work work;
    ++visit_;
    for (const MemberRef& member : members) {
      const int32_t sample = step_.first_sample[index(member.group)] + member.index;
      work.edges += step_.edges[index(sample)];
      for (int32_t n = step_.forest.last_node[index(sample)]; n >= 0 && seen_[index(n)] != visit_;
           n = step_.forest.node[index(n)].parent) {
        seen_[index(n)] = visit_;
        work.rows += step_.forest.node[index(n)].length;
        work.pairs += step_.forest.node[index(n)].visible_pairs();
      }
    }
    return work;
  }

 private:
  const StepForest& step_;
  std::vector<int32_t> seen_;
  int32_t visit_ = 0;
};

std::vector<int32_t> slice_ends(const std::vector<Work>& slices) {
  int64_t done = 0;
  std::vector<int32_t> ends;
  for (const Work& slice : slices) ends.push_back(static_cast<int32_t>(done += slice.rows));
  return ends;
}

bool has_tokens(const data::Group& group) {
  return std::any_of(group.sample.begin(), group.sample.end(),
                     [](const data::Sample& sample) { return !sample.token.empty(); });
}

}  // namespace

PipelinePacks pack_for_pipeline(const StepForest& step, std::span<const data::Group> groups, bool may_tear,
                                const ParallelOptions& parallel, const StageCosts& costs, const PackOptions& options) {
  StepTree tree = make_tree(step, groups);
  merge_lines(tree.tree);
  PlannerOptions planner;
  planner.replicas = parallel.dp;
  planner.parallel = parallel;
  planner.max_tokens = options.max_tokens;
  planner.may_slice = options.slices == 0;
  planner.atomic = may_tear ? Atomic::kSamples : Atomic::kLines;
  planner.search_layers = false;
  const PipelinePlan plan = plan_pipeline(tree.tree, costs, planner);

  const CostTable forward = forward_cost(costs);
  PackWork work_of(step);
  PipelinePacks packs;
  std::vector<bool> is_placed(groups.size(), false);
  for (const PlannedReplica& replica : plan.replica) {
    packs.window.push_back(replica.window);
    std::vector<PackPlan>& list = packs.replica.emplace_back();
    for (const PlannedPack& planned : replica.pack) {
      PackPlan& pack = list.emplace_back();
      for (const int32_t sample : planned.sample) pack.member.push_back(tree.member[index(sample)]);
      for (const MemberRef& rider : tree.empty) {
        const bool is_home = std::any_of(pack.member.begin(), pack.member.end(),
                                         [&](const MemberRef& member) { return member.group == rider.group; });
        const bool is_first = list.size() == 1 && packs.replica.size() == 1;
        if (is_placed[index(rider.group)] || !(is_home || (is_first && !has_tokens(groups[index(rider.group)]))))
          continue;
        pack.member.push_back(rider);
      }
      for (const MemberRef& member : pack.member) is_placed[index(member.group)] = true;
      std::sort(pack.member.begin(), pack.member.end(), [](const MemberRef& a, const MemberRef& b) {
        return std::tie(a.group, a.index) < std::tie(b.group, b.index);
      });
      const Work work = work_of.of(pack.member);
      pack.rows = work.rows, pack.pairs = work.pairs, pack.edges = work.edges;
      pack.cost = forward.cost(work.rows, work.pairs, work.edges);
      pack.slice_end = slice_ends(planned.slice);
    }
  }
  return packs;
}

}  // namespace fpdist::plan
