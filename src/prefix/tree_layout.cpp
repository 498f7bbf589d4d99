// Rows from the forest, then scores and edges by walking every sample's path once.

#include "fpdist/prefix/tree_layout.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/core/index.hpp"
#include "src/prefix/flat_map.hpp"
#include "src/prefix/forest.hpp"

namespace fpdist::prefix {
namespace {

void lay_rows(const Forest& forest, std::span<const TokenSpan> samples, TreeLayout& layout) {
  const int64_t rows = forest.tokens();
  check<ConfigError>(rows <= std::numeric_limits<int32_t>::max(), "a pack of ", rows,
                     " rows is too large: lower pack.max_tokens");
  layout.token.resize(index(rows));
  layout.depth.resize(index(rows));
  layout.subtree_end.resize(index(rows));
  layout.node.reserve(forest.node.size());
  int32_t begin = 0;
  for (const ForestNode& n : forest.node) {
    const auto depth = static_cast<int32_t>(n.depth), length = static_cast<int32_t>(n.length);
    layout.node.push_back({begin, begin + length, n.parent, depth});
    std::copy_n(samples[index(n.sample)].begin() + n.depth, n.length, layout.token.begin() + begin);
    std::iota(layout.depth.begin() + begin, layout.depth.begin() + begin + length, depth);
    begin += length;
  }
  // Parents come before children, so going backwards every subtree is complete when it is handed up.
  std::vector<int32_t> subtree_end(layout.node.size());
  for (size_t n = layout.node.size(); n-- > 0;) {
    const Node& node = layout.node[n];
    subtree_end[n] = std::max(subtree_end[n], node.end);
    if (node.parent >= 0) subtree_end[index(node.parent)] = std::max(subtree_end[index(node.parent)], subtree_end[n]);
    std::fill(layout.subtree_end.begin() + node.begin, layout.subtree_end.begin() + node.end, subtree_end[n]);
  }
}

/// Numbers distinct (row, target) pairs. Nearly every row has one target, kept beside the row; the others (branch
/// points, hand-made labels) go to a hash map, so that a node with thousands of children costs no more per edge.
class ScoreTable {
 public:
  explicit ScoreTable(int64_t rows) : first_(index(rows), Entry{0, -1}) {}

  int32_t score_of(int32_t row, int32_t target) {
    Entry& first = first_[index(row)];
    if (first.score < 0) {
      first = {target, append(row, target)};
      return first.score;
    }
    if (first.target == target) return first.score;
    int32_t& score = others_.at(row, target);
    if (score < 0) score = append(row, target);
    return score;
  }

  /// Renumbers ascending by row (ties in order of appearance) and moves the arrays into the layout.
  void finish(TreeLayout& layout) && {
    std::vector<int32_t> place(first_.size() + 1, 0);
    for (const int32_t row : row_) ++place[index(row) + 1];
    std::partial_sum(place.begin(), place.end(), place.begin());
    std::vector<int32_t> renumbered(row_.size());
    layout.score_row.resize(row_.size());
    layout.score_target.resize(row_.size());
    for (size_t old = 0; old < row_.size(); ++old) {
      const int32_t score = place[index(row_[old])]++;
      renumbered[old] = score;
      layout.score_row[index(score)] = row_[old];
      layout.score_target[index(score)] = target_[old];
    }
    for (int32_t& score : layout.edge_score) score = renumbered[index(score)];
  }

 private:
  struct Entry {
    int32_t target, score;
  };

  int32_t append(int32_t row, int32_t target) {
    row_.push_back(row);
    target_.push_back(target);
    return static_cast<int32_t>(row_.size()) - 1;
  }

  std::vector<Entry> first_;  // [T]
  FlatMap others_;
  std::vector<int32_t> row_, target_;  // [S] in order of appearance
};

/// Appends the edges of sample `b`, whose path through the nodes is `path` (root first).
void lay_edges(const data::Sample& sample, int32_t b, std::span<const int32_t> path, ScoreTable& scores,
               TreeLayout& layout) {
  const auto length = static_cast<int32_t>(sample.token.size());
  for (const int32_t n : path) {
    const Node& node = layout.node[index(n)];
    const int32_t end = std::min(node.depth + (node.end - node.begin), length - 1);
    for (int32_t source = node.depth; source < end; ++source) {
      const int32_t target = sample.target[index(source + 1)];
      if (target == data::kIgnore) continue;
      layout.edge_score.push_back(scores.score_of(node.begin + (source - node.depth), target));
      layout.edge_sample.push_back(b);
      layout.edge_index.push_back(source + 1);
    }
  }
}

}  // namespace

TreeLayout make_layout(std::span<const PackMember> members, bool share) {
  std::vector<TokenSpan> samples;
  samples.reserve(members.size());
  for (const PackMember& member : members) {
    check<DataError>(member.sample->target.size() == member.sample->token.size(), "group ", member.group, ", sample ",
                     member.index, ": ", member.sample->target.size(), " targets for ", member.sample->token.size(),
                     " tokens: give one target a token, data::kIgnore where nothing is supervised");
    samples.emplace_back(member.sample->token);
  }
  const Forest forest = make_forest(samples, share);
  TreeLayout layout;
  lay_rows(forest, samples, layout);

  ScoreTable scores(layout.rows());
  std::unordered_map<int64_t, int32_t> group_number;
  std::vector<int32_t> path;
  layout.sample.reserve(members.size());
  for (size_t b = 0; b < members.size(); ++b) {
    const int32_t last = forest.last_node[b], first_edge = static_cast<int32_t>(layout.edge_score.size());
    path.clear();
    for (int32_t n = last; n >= 0; n = layout.node[index(n)].parent) path.push_back(n);
    std::reverse(path.begin(), path.end());
    lay_edges(*members[b].sample, static_cast<int32_t>(b), path, scores, layout);
    const auto group =
        group_number.try_emplace(members[b].group, static_cast<int32_t>(group_number.size())).first->second;
    layout.sample.push_back({group, members[b].index, first_edge,
                             static_cast<int32_t>(layout.edge_score.size()) - first_edge,
                             last < 0 ? -1 : layout.node[index(last)].end - 1});
  }
  check<ConfigError>(layout.edges() <= std::numeric_limits<int32_t>::max(), "a pack of ", layout.edges(),
                     " edges is too large: lower pack.max_tokens");
  std::move(scores).finish(layout);
  return layout;
}

}  // namespace fpdist::prefix
