#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "src/core/index.hpp"
#include "src/plan/context/refine.hpp"

namespace fpdist::plan {
namespace {

/// Sweeps over all boundaries, times teams: load seeps from team to team, and many teams have many boundaries. A tenth
/// of it changes 32 of 96 plans and their mean by 0.01 %; fewer than four, with more than 80 teams, the mean by 0.04 %.
constexpr int kSweepsTimesTeams = 320, kFewestSweeps = 4;

/// Rows and pairs of one team.
struct Carried {
  int64_t rows = 0, pairs = 0;
  void add(const Chunk& chunk) { rows += chunk.rows(), pairs += chunk.pairs; }
  void take(const Chunk& chunk) { rows -= chunk.rows(), pairs -= chunk.pairs; }
};

class Leveller {
 public:
  Leveller(const ChunkTree& tree, const ShareScale& scale, std::span<const int32_t> owner, int teams,
           std::vector<Chunk>& chunk)
      : tree_(tree), scale_(scale), owner_(owner), chunk_(chunk), carried_(index(teams)) {
    for (size_t c = 0; c < chunk.size(); ++c) carried_[index(owner[c])].add(chunk[c]);
  }

  int64_t worst() const {
    int64_t most = 0;
    for (const Carried& team : carried_) most = std::max(most, share(team).load());
    return most;
  }

  bool sweep(int64_t target);

 private:
  Share share(const Carried& team) const { return scale_(team.rows, team.pairs); }
  int64_t keys_at(const Chunk& chunk, int32_t row) const {
    return tree_.node_depth[index(chunk.node)] + row - tree_.node_begin[index(chunk.node)];
  }
  int64_t rows_to_shift(const Share& high, const Share& low, int64_t keys, int64_t room) const;
  void cut_at(size_t before, int32_t row);

  const ChunkTree& tree_;
  const ShareScale& scale_;
  std::span<const int32_t> owner_;
  std::vector<Chunk>& chunk_;
  std::vector<Carried> carried_;  ///< [teams]
};

/// How many of `room` rows, each with about `keys` keys, should go from the heavier to the lighter team.
int64_t Leveller::rows_to_shift(const Share& high, const Share& low, int64_t keys, int64_t room) const {
  constexpr int kBits = 10;  // shares of 2^10 rows, against rounding
  const Share step = scale_(int64_t{1} << kBits, keys << kBits);
  // The larger of the two loads is least where a falling line meets a rising one: rows or pairs of either.
  const std::array<std::pair<int64_t, int64_t>, 4> meetings = {{{high.rows - low.rows, 2 * step.rows},
                                                                {high.rows - low.pairs, step.rows + step.pairs},
                                                                {high.pairs - low.rows, step.rows + step.pairs},
                                                                {high.pairs - low.pairs, 2 * step.pairs}}};
  int64_t best = high.load(), best_rows = 0;
  for (const auto& [gap, slope] : meetings) {
    if (gap <= 0 || slope <= 0) continue;
    const int64_t rows = std::min(room, gap / slope * (1 << kBits) + (gap % slope * (1 << kBits)) / slope);
    const Share moved{(step.rows * rows) >> kBits, (step.pairs * rows) >> kBits};
    const int64_t load = std::max((high - moved).load(), (low + moved).load());
    if (load < best) best = load, best_rows = rows;
  }
  return best_rows;
}

void Leveller::cut_at(size_t before, int32_t row) {
  for (const size_t c : {before, before + 1}) {
    Chunk& chunk = chunk_[c];
    carried_[index(owner_[c])].take(chunk);
    (c == before ? chunk.end : chunk.begin) = row;
    chunk.pairs = prefix::visible_pairs(keys_at(chunk, chunk.begin), chunk.rows());
    carried_[index(owner_[c])].add(chunk);
  }
}

/// Levels the two owners at every boundary once. Did anything change?
bool Leveller::sweep(int64_t target) {
  bool changed = false;
  for (size_t c = 0; c + 1 < chunk_.size(); ++c) {
    const Chunk& before = chunk_[c];
    const Chunk& after = chunk_[c + 1];
    if (before.node != after.node || owner_[c] == owner_[c + 1]) continue;
    const Share first = share(carried_[index(owner_[c])]), second = share(carried_[index(owner_[c + 1])]);
    if (std::max(first.load(), second.load()) <= target) continue;
    const bool back = first.load() > second.load();  // the boundary moves to earlier rows
    const int64_t room = (back ? before : after).rows() - 1, keys = keys_at(before, before.end);
    const int64_t rows = back ? rows_to_shift(first, second, keys, room) : rows_to_shift(second, first, keys, room);
    if (rows == 0) continue;
    cut_at(c, before.end + static_cast<int32_t>(back ? -rows : rows));
    changed = true;
  }
  return changed;
}

}  // namespace

int64_t level_boundaries(const ChunkTree& tree, const ShareScale& scale, std::span<const int32_t> owner, int teams,
                         int64_t target, std::vector<Chunk>& chunk) {
  Leveller leveller(tree, scale, owner, teams, chunk);
  const int sweeps = std::max(kFewestSweeps, kSweepsTimesTeams / teams);
  for (int i = 0; i < sweeps && leveller.worst() > target; ++i)
    if (!leveller.sweep(target)) break;
  return leveller.worst();
}

}  // namespace fpdist::plan
