#include "src/plan/dispatch_owners.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

namespace fpdist::plan {
namespace {

/// The whole pack in the fixed-point shares below.
constexpr int64_t kWhole = int64_t{1} << 30;
constexpr int64_t kCapPercent = 102;
constexpr std::array<int64_t, 4> kSplitPercent = {105, 60, 30, 15};

/// Rows (they drive the linear layers) and pairs (they drive attention) as shares of the pack's.
struct Share {
  int64_t rows = 0, pairs = 0;
  int64_t load() const { return std::max(rows, pairs); }
  Share& operator+=(const Share& o) { return rows += o.rows, pairs += o.pairs, *this; }
  Share& operator-=(const Share& o) { return rows -= o.rows, pairs -= o.pairs, *this; }
  friend Share operator+(Share a, const Share& b) { return a += b; }
  friend Share operator-(Share a, const Share& b) { return a -= b; }
};

/// Chunks [begin, end) that stay together.
struct Unit {
  int32_t begin, end;
  Share share;
  bool root;  ///< a chunk of a root node
};

class OwnerSearch {
 public:
  OwnerSearch(const ChunkTree& tree, int groups);
  Owners run(int64_t split_percent, bool zigzag);

 private:
  void make_units(int64_t split_percent);
  void place(size_t unit, size_t group);
  void place_zigzag();
  void place_longest_first();
  void refine();
  bool improve_worst();
  OwnerScore score(const std::vector<int32_t>& owner) const;

  const ChunkTree& tree_;
  size_t groups_;
  std::vector<Share> chunk_;    ///< [chunks]
  std::vector<Share> subtree_;  ///< [nodes]
  std::vector<Unit> unit_;
  std::vector<int32_t> group_of_;  ///< [units] -1: not placed yet
  std::vector<Share> load_;        ///< [groups]
};

OwnerSearch::OwnerSearch(const ChunkTree& tree, int groups)
    : tree_(tree), groups_(at(groups)), chunk_(tree.chunk.size()), subtree_(tree.parent.size()) {
  int shift = 0;
  while (tree.pairs >> shift >= int64_t{1} << 33) ++shift;
  for (size_t c = 0; c < chunk_.size(); ++c)
    chunk_[c] = {tree.chunk[c].rows() * kWhole / tree.rows,
                 (tree.chunk[c].pairs >> shift) * kWhole / std::max<int64_t>(1, tree.pairs >> shift)};
  for (size_t v = tree.parent.size(); v-- > 0;) {
    for (int32_t c = tree.first_chunk[v]; c < tree.first_chunk[v + 1]; ++c) subtree_[v] += chunk_[at(c)];
    if (tree.parent[v] >= 0) subtree_[at(tree.parent[v])] += subtree_[v];
  }
}

void OwnerSearch::make_units(int64_t split_percent) {
  unit_.clear();
  const int64_t most = split_percent * kWhole / (100 * static_cast<int64_t>(groups_));
  for (size_t v = 0; v < tree_.parent.size();) {
    if (subtree_[v].load() <= most) {
      const auto after = at(tree_.subtree_end[v]);
      const int32_t begin = tree_.first_chunk[v], end = tree_.first_chunk[after];
      if (begin < end) unit_.push_back({begin, end, subtree_[v], false});
      v = after;
      continue;
    }
    for (int32_t c = tree_.first_chunk[v]; c < tree_.first_chunk[v + 1]; ++c)
      unit_.push_back({c, c + 1, chunk_[at(c)], tree_.parent[v] < 0});
    ++v;
  }
  group_of_.assign(unit_.size(), -1);
  load_.assign(groups_, {});
}

void OwnerSearch::place(size_t unit, size_t group) {
  group_of_[unit] = static_cast<int32_t>(group);
  load_[group] += unit_[unit].share;
}

/// Chunks of root nodes, to and fro over the groups: early (cheap) and late (dear) queries pair up.
void OwnerSearch::place_zigzag() {
  size_t next = 0;
  for (size_t u = 0; u < unit_.size(); ++u) {
    if (!unit_[u].root) continue;
    const size_t turn = next++ % (2 * groups_);
    place(u, turn < groups_ ? turn : 2 * groups_ - 1 - turn);
  }
}

void OwnerSearch::place_longest_first() {
  std::vector<size_t> order;
  for (size_t u = 0; u < unit_.size(); ++u)
    if (group_of_[u] < 0) order.push_back(u);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return unit_[a].share.load() > unit_[b].share.load(); });
  for (const size_t u : order) {
    size_t best = 0;
    int64_t best_load = kWhole * 4;
    for (size_t g = 0; g < groups_; ++g) {
      const int64_t load = (load_[g] + unit_[u].share).load();
      if (load < best_load) best = g, best_load = load;
    }
    place(u, best);
  }
}

/// One move or swap that lowers the worst group's load most, the partner staying below the old worst.
bool OwnerSearch::improve_worst() {
  size_t worst = 0;
  for (size_t g = 1; g < groups_; ++g)
    if (load_[g].load() > load_[worst].load()) worst = g;
  const int64_t old = load_[worst].load();
  int64_t best = old;
  size_t best_mine = unit_.size(), best_theirs = unit_.size(), best_group = 0;
  const auto consider = [&](size_t mine, size_t theirs, size_t group, const Share& moved) {
    const int64_t load = std::max((load_[worst] - moved).load(), (load_[group] + moved).load());
    if (load < best) best = load, best_mine = mine, best_theirs = theirs, best_group = group;
  };
  for (size_t mine = 0; mine < unit_.size(); ++mine) {
    if (at(group_of_[mine]) != worst) continue;
    for (size_t g = 0; g < groups_; ++g)
      if (g != worst) consider(mine, unit_.size(), g, unit_[mine].share);
    for (size_t theirs = 0; theirs < unit_.size(); ++theirs)
      if (const size_t g = at(group_of_[theirs]); g != worst)
        consider(mine, theirs, g, unit_[mine].share - unit_[theirs].share);
  }
  if (best == old) return false;
  load_[worst] -= unit_[best_mine].share;
  place(best_mine, best_group);
  if (best_theirs < unit_.size()) {
    load_[best_group] -= unit_[best_theirs].share;
    place(best_theirs, worst);
  }
  return true;
}

void OwnerSearch::refine() {
  const int64_t good_enough = kWhole / static_cast<int64_t>(groups_) * 1002 / 1000;
  for (size_t step = 0; step < 4 * groups_; ++step) {
    int64_t worst = 0;
    for (const Share& load : load_) worst = std::max(worst, load.load());
    if (worst <= good_enough || !improve_worst()) return;
  }
}

OwnerScore OwnerSearch::score(const std::vector<int32_t>& owner) const {
  const std::vector<int64_t> received =
      ConsumerSets(tree_, owner, static_cast<int>(groups_)).received_rows(tree_, owner);
  OwnerScore score;
  for (const Share& load : load_) score.worst_load = std::max(score.worst_load, load.load());
  const int64_t mean = kWhole / static_cast<int64_t>(groups_);
  score.imbalance = std::max(kCapPercent, (score.worst_load * 100 + mean - 1) / mean);
  score.worst_rows = *std::max_element(received.begin(), received.end());
  score.all_rows = std::accumulate(received.begin(), received.end(), int64_t{0});
  return score;
}

Owners OwnerSearch::run(int64_t split_percent, bool zigzag) {
  make_units(split_percent);
  if (zigzag) place_zigzag();
  place_longest_first();
  refine();
  Owners result{std::vector<int32_t>(tree_.chunk.size()), {}};
  for (size_t u = 0; u < unit_.size(); ++u)
    std::fill(result.owner.begin() + unit_[u].begin, result.owner.begin() + unit_[u].end, group_of_[u]);
  result.score = score(result.owner);
  return result;
}

}  // namespace

Owners choose_owners(const ChunkTree& tree, int groups, int64_t bound) {
  Owners best{std::vector<int32_t>(tree.chunk.size()), {}};
  if (tree.chunk.empty() || groups == 1) return best;
  OwnerSearch search(tree, groups);
  bool first = true;
  for (const int64_t split_percent : kSplitPercent) {
    for (const bool zigzag : {true, false}) {
      Owners found = search.run(split_percent, zigzag);
      if (first || found.score < best.score) best = std::move(found);
      first = false;
      if (best.score.imbalance <= kCapPercent && best.score.worst_rows <= bound) return best;
    }
  }
  return best;
}

}  // namespace fpdist::plan
