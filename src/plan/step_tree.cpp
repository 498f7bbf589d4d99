#include "src/plan/step_tree.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

#include "src/core/index.hpp"
#include "src/prefix/forest.hpp"

namespace fpdist::plan {
namespace {

/// Targets of a sample's tokens in [from, to); its first token is predicted from nowhere.
std::span<const int32_t> targets(const data::Sample& sample, int64_t from, int64_t to) {
  from = std::max<int64_t>(from, 1);
  to = std::min(to, static_cast<int64_t>(sample.target.size()));
  return from < to ? std::span(sample.target).subspan(index(from), index(to - from)) : std::span<const int32_t>();
}

/// Counts edges: at nodes where all samples that pass through want the same targets, else to the samples.
void count_scores(LengthTree& tree, const prefix::Forest& forest, std::span<const data::Sample* const> samples) {
  const auto end = [&](size_t n) { return forest.node[n].depth + forest.node[n].length; };
  const auto range = [&](const data::Sample& sample, size_t n) {
    return targets(sample, forest.node[n].depth, end(n));
  };
  const auto edges = [&](const data::Sample& sample, size_t n) {
    return count_edges(sample, forest.node[n].depth, end(n));
  };
  std::vector<bool> is_common(tree.node.size(), true);
  for (size_t b = 0; b < samples.size(); ++b)
    for (int32_t n = forest.last_node[b]; n >= 0; n = tree.node[index(n)].parent) {
      const auto first = range(*samples[index(forest.node[index(n)].sample)], index(n));
      const auto own = range(*samples[b], index(n));
      if (first.data() != own.data() && !std::equal(first.begin(), first.end(), own.begin(), own.end()))
        is_common[index(n)] = false;
    }
  for (size_t n = 0; n < tree.node.size(); ++n)
    if (is_common[n]) tree.node[n].edges = edges(*samples[index(forest.node[n].sample)], n);
  for (LengthSample& sample : tree.sample) {
    const size_t b = index(sample.edges);  // until now: which sample of the step
    sample.edges = 0;
    for (int32_t n = sample.node; n >= 0; n = tree.node[index(n)].parent)
      if (!is_common[index(n)]) sample.edges += edges(*samples[b], index(n));
  }
}

}  // namespace

int64_t count_edges(const data::Sample& sample, int64_t from, int64_t to) {
  const std::span<const int32_t> target = targets(sample, from, to);
  return static_cast<int64_t>(target.size()) - std::count(target.begin(), target.end(), data::kIgnore);
}

StepTotals count_totals(std::span<const data::Group> groups) {
  StepTotals totals;
  totals.groups = static_cast<int64_t>(groups.size());
  for (const data::Group& group : groups)
    for (const data::Sample& sample : group.sample) {
      const int64_t edges = count_edges(sample);
      ++totals.samples, totals.edges += edges, totals.samples_with_edges += edges > 0;
      if (&sample == &group.sample.front()) totals.first_edges += edges;
      totals.wanted += sample.reward.value_or(0) > 0;
      totals.tokens_logical += sample.length();
    }
  return totals;
}

StepTree make_step_tree(std::span<const data::Group> groups, bool share) {
  StepTree step;
  step.totals = count_totals(groups);
  std::vector<prefix::TokenSpan> tokens;
  std::vector<const data::Sample*> samples;
  std::vector<MemberRef> members;
  std::vector<int64_t> edges;
  for (size_t g = 0; g < groups.size(); ++g) {
    step.tree.id.push_back(groups[g].id);
    for (size_t s = 0; s < groups[g].sample.size(); ++s) {
      samples.push_back(&groups[g].sample[s]);
      tokens.emplace_back(samples.back()->token);
      members.push_back({static_cast<int32_t>(g), static_cast<int32_t>(s)});
      edges.push_back(count_edges(*samples.back()));
    }
  }
  step.tree.lines = static_cast<int32_t>(groups.size());
  const prefix::Forest forest = prefix::make_forest(tokens, share);
  // What sharing could save is told also where it is off.
  step.totals.tokens_unique = share ? forest.tokens() : prefix::make_forest(tokens).tokens();
  for (const prefix::ForestNode& node : forest.node)
    step.tree.node.push_back({.parent = node.parent, .rows = node.length, .above = node.depth});
  std::vector<int32_t> order(members.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return forest.last_node[index(a)] < forest.last_node[index(b)]; });
  for (const int32_t b : order) {
    const int32_t node = forest.last_node[index(b)];
    if (node < 0) {
      step.empty.push_back(members[index(b)]);
      continue;
    }
    step.member.push_back(members[index(b)]);
    step.edges.push_back(edges[index(b)]);
    step.tree.sample.push_back({.node = node, .line = members[index(b)].group, .edges = b});
  }
  count_scores(step.tree, forest, samples);
  return step;
}

}  // namespace fpdist::plan
