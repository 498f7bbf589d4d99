// Slices of a pack over context-parallel ranks: each slice is balanced as a forest of its own whose roots know how deep
// they lie; keys then go from their owners to the teams whose queries see them.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "src/core/index.hpp"
#include "src/plan/context/context_plan.hpp"
#include "src/plan/context/rounds.hpp"

namespace fpdist::plan {
namespace {

/// The parts of the nodes that lie in rows [begin, end), numbered from `begin`.
std::vector<prefix::Node> nodes_between(std::span<const prefix::Node> node, int32_t begin, int32_t end) {
  std::vector<prefix::Node> parts;
  std::vector<int32_t> part_of(node.size(), -1);
  for (size_t v = 0; v < node.size(); ++v) {
    const int32_t from = std::max(begin, node[v].begin), to = std::min(end, node[v].end);
    if (from >= to) continue;
    part_of[v] = static_cast<int32_t>(parts.size());
    parts.push_back({.begin = from - begin,
                     .end = to - begin,
                     .parent = node[v].parent < 0 ? -1 : part_of[index(node[v].parent)],
                     .depth = node[v].depth + from - node[v].begin});
  }
  return parts;
}

void shift(std::vector<std::vector<RowRange>>& rows, int32_t by) {
  for (auto& ranges : rows)
    for (RowRange& range : ranges) range.begin += by, range.end += by;
}

/// Which rows the queries of some ranges see, ascending.
std::vector<RowRange> visible_rows(std::span<const prefix::Node> node, std::span<const RowRange> queries) {
  std::vector<int32_t> seen(node.size(), 0);  // first rows of each node
  size_t v = 0;
  for (const RowRange& range : queries) {
    for (int32_t row = range.begin; row < range.end;) {
      while (node[v].end <= row) ++v;
      const int32_t last = std::min(range.end, node[v].end);
      seen[v] = std::max(seen[v], last - node[v].begin);
      for (int32_t a = node[v].parent; a >= 0 && seen[index(a)] < node[index(a)].end - node[index(a)].begin;
           a = node[index(a)].parent)
        seen[index(a)] = node[index(a)].end - node[index(a)].begin;
      row = last;
    }
  }
  std::vector<RowRange> rows;
  for (size_t n = 0; n < node.size(); ++n)
    if (seen[n] > 0) rows.push_back({node[n].begin, node[n].begin + seen[n]});
  return rows;
}

/// The common rows of two ascending lists, cut to [begin, end).
std::vector<RowRange> common(const std::vector<RowRange>& a, const std::vector<RowRange>& b, int32_t begin,
                             int32_t end) {
  std::vector<RowRange> rows;
  for (size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    const RowRange part{std::max({a[i].begin, b[j].begin, begin}), std::min({a[i].end, b[j].end, end})};
    if (part.begin < part.end) append(rows, part);
    (a[i].end < b[j].end ? i : j)++;
  }
  return rows;
}

/// Rounds by row number, the same cuts for every team.
void fill_rounds(CpPlan& plan, std::span<const prefix::Node> node, const std::vector<std::vector<RowRange>>& owned,
                 int32_t rows) {
  const size_t teams = plan.team_rows.size();
  std::vector<std::vector<RowRange>> visible;
  int64_t most = 0;
  for (size_t g = 0; g < teams; ++g) {
    visible.push_back(visible_rows(node, plan.team_rows[g]));
    most = std::max(most, count_rows(visible.back()));
  }
  const int64_t rounds = rounds_for(most);
  plan.round.assign(teams, std::vector<CpRound>(index(teams > 1 ? rounds : 0)));
  for (size_t to = 0; to < teams; ++to)
    for (size_t from = 0; from < teams; ++from) {
      if (from == to) continue;
      for (int64_t s = 0; s < rounds; ++s) {
        const auto cut = [&](int64_t round) { return static_cast<int32_t>(int64_t{rows} * round / rounds); };
        std::vector<RowRange> part = common(visible[to], owned[from], cut(s), cut(s + 1));
        if (part.empty()) continue;
        plan.round[from][index(s)].send.push_back({static_cast<int32_t>(to), part});
        plan.round[to][index(s)].receive.push_back({static_cast<int32_t>(from), std::move(part)});
      }
    }
}

}  // namespace

std::vector<CpPlan> plan_context_slices(std::span<const prefix::Node> node, std::span<const int32_t> slice_end,
                                        const ParallelOptions& options, const CpCosts& costs) {
  if (slice_end.size() <= 1) return {plan_context(node, options, costs)};
  // One head split for the pack: resident keys lie by heads.
  ParallelOptions fixed = options;
  fixed.ulysses = plan_context(node, options, costs).ulysses;
  std::vector<CpPlan> plans;
  std::vector<std::vector<RowRange>> owned(index(options.cp / fixed.ulysses));
  int32_t begin = 0;
  for (const int32_t end : slice_end) {
    CpPlan plan = plan_context(nodes_between(node, begin, end), fixed, costs);
    shift(plan.rank_rows, begin), shift(plan.team_rows, begin);
    for (size_t g = 0; g < owned.size(); ++g)
      owned[g].insert(owned[g].end(), plan.team_rows[g].begin(), plan.team_rows[g].end());
    fill_rounds(plan, node, owned, end);
    plans.push_back(std::move(plan));
    begin = end;
  }
  return plans;
}

}  // namespace fpdist::plan
