#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "src/core/index.hpp"
#include "src/plan/context/chunks.hpp"
#include "src/plan/context/context_plan.hpp"
#include "src/plan/context/rounds.hpp"

namespace fpdist::plan {
namespace {

int64_t rows_of(const std::vector<KeyMessage>& messages) {
  int64_t rows = 0;
  for (const KeyMessage& message : messages) rows += count_rows(message.rows);
  return rows;
}

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

CpLoad load_of(const CpPlan& plan, std::span<const prefix::Node> node) {
  const size_t teams = plan.team_rows.size();
  CpLoad load;
  load.rows.resize(teams);
  load.pairs.resize(teams);
  load.received.resize(teams);
  load.sent.resize(teams);
  for (size_t g = 0; g < teams; ++g) {
    size_t v = 0;
    for (const RowRange& range : plan.team_rows[g]) {
      load.rows[g] += range.size();
      for (int32_t begin = range.begin; begin < range.end;) {
        while (node[v].end <= begin) ++v;
        const int32_t end = std::min(range.end, node[v].end);
        load.pairs[g] += prefix::visible_pairs(node[v].depth + begin - node[v].begin, end - begin);
        begin = end;
      }
    }
    for (const CpRound& round : plan.round[g]) {
      load.received[g] += rows_of(round.receive);
      load.sent[g] += rows_of(round.send);
    }
    load.total_rows += load.rows[g];
    load.total_pairs += load.pairs[g];
  }
  return load;
}

int64_t received_bound(std::span<const prefix::Node> node, int teams, int cap_percent) {
  const std::vector<int32_t> end = subtree_ends(node);
  std::vector<int64_t> rows(node.size()), pairs(node.size());  // of the whole subtree
  int64_t all_rows = 0, all_pairs = 0, longest = 0;
  for (size_t v = node.size(); v-- > 0;) {
    const int64_t own = node[v].end - node[v].begin, own_pairs = prefix::visible_pairs(node[v].depth, own);
    rows[v] += own;
    pairs[v] += own_pairs;
    if (node[v].parent >= 0) {
      rows[index(node[v].parent)] += rows[v];
      pairs[index(node[v].parent)] += pairs[v];
    }
    all_rows += own;
    all_pairs += own_pairs;
    longest = std::max(longest, node[v].depth + own);
  }
  if (all_rows == 0 || teams <= 1) return 0;
  const int64_t deepest = std::max(ceil_div(all_pairs, all_rows), longest) - ceil_div(all_rows, teams);
  int64_t received = 0;  // by all teams together
  for (size_t v = 0; v < node.size(); ++v) {
    const int64_t own = node[v].end - node[v].begin, below = rows[v] - own;
    const int64_t below_pairs = pairs[v] - prefix::visible_pairs(node[v].depth, own);
    const auto least = [&](int64_t part, int64_t all) {
      return static_cast<int64_t>(
          (static_cast<__int128>(part) * 100 * teams + static_cast<__int128>(all) * cap_percent - 1) /
          (static_cast<__int128>(all) * cap_percent));
    };
    received += own * std::max<int64_t>(0, std::max(least(below, all_rows), least(below_pairs, all_pairs)) - 1);
  }
  return std::max({int64_t{0}, deepest, ceil_div(received, teams)});
}

std::vector<RowRange> keys_of_round(const CpPlan& plan, int g, int s) {
  if (s < 0) return plan.team_rows[index(g)];
  std::vector<RowRange> rows;
  for (const KeyMessage& message : plan.round[index(g)][index(s)].receive)
    rows.insert(rows.end(), message.rows.begin(), message.rows.end());
  normalise(rows);
  return rows;
}

}  // namespace fpdist::plan
