#include "src/plan/units.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace fpdist::plan {
namespace {

size_t index(int32_t i) { return static_cast<size_t>(i); }

std::vector<Unit> list_units(std::span<const data::Group> groups, const std::vector<bool>& torn) {
  std::vector<Unit> units;
  for (size_t g = 0; g < groups.size(); ++g) {
    for (size_t s = 0; s < groups[g].sample.size(); ++s) {
      if (s == 0 || torn[g]) units.emplace_back();
      units.back().member.push_back({static_cast<int32_t>(g), static_cast<int32_t>(s)});
    }
  }
  return units;
}

/// Distinct nodes of every unit, concatenated: unit u has node[begin[u] .. begin[u+1]).
struct UnitNodes {
  std::vector<int32_t> node;
  std::vector<size_t> begin{0};
};

UnitNodes nodes_of(const StepForest& step, const std::vector<Unit>& units) {
  UnitNodes result;
  std::vector<int32_t> seen_by(step.forest.node.size(), -1);
  for (size_t u = 0; u < units.size(); ++u) {
    for (const MemberRef& member : units[u].member) {
      int32_t n = step.forest.last_node[index(step.first_sample[index(member.group)] + member.index)];
      // Above a node that this unit has seen, it has seen every ancestor.
      for (; n >= 0 && seen_by[index(n)] != static_cast<int32_t>(u); n = step.forest.node[index(n)].parent) {
        seen_by[index(n)] = static_cast<int32_t>(u);
        result.node.push_back(n);
      }
    }
    result.begin.push_back(result.node.size());
  }
  return result;
}

}  // namespace

StepForest make_step_forest(std::span<const data::Group> groups, bool share) {
  StepForest step;
  std::vector<prefix::TokenSpan> samples;
  for (const data::Group& group : groups) {
    step.first_sample.push_back(static_cast<int32_t>(samples.size()));
    for (const data::Sample& sample : group.sample) {
      samples.emplace_back(sample.token);
      step.edges.push_back(count_edges(sample));
      step.tokens_logical += sample.length();
    }
  }
  step.forest = prefix::make_forest(samples, share);
  return step;
}

UnitSet make_units(const StepForest& step, std::span<const data::Group> groups, const std::vector<bool>& torn) {
  UnitSet set;
  set.unit = list_units(groups, torn);
  const UnitNodes nodes = nodes_of(step, set.unit);
  std::vector<int32_t> users(step.forest.node.size(), 0), shared_index(step.forest.node.size(), -1);
  for (const int32_t n : nodes.node) ++users[index(n)];
  for (size_t u = 0; u < set.unit.size(); ++u) {
    Unit& unit = set.unit[u];
    for (const MemberRef& member : unit.member)
      unit.own.edges += step.edges[index(step.first_sample[index(member.group)] + member.index)];
    unit.alone.edges = unit.own.edges;
    for (size_t i = nodes.begin[u]; i < nodes.begin[u + 1]; ++i) {
      const size_t n = index(nodes.node[i]);
      const Work work{step.forest.node[n].length, step.forest.node[n].visible_pairs(), 0};
      unit.alone += work;
      if (users[n] == 1) {
        unit.own += work;
        continue;
      }
      if (shared_index[n] < 0) {
        shared_index[n] = static_cast<int32_t>(set.shared.size());
        set.shared.push_back(work);
      }
      unit.shared.push_back(shared_index[n]);
    }
  }
  return set;
}

}  // namespace fpdist::plan
