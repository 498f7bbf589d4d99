#pragma once
// plan: a placement of units on teams while it is being searched: what each team carries, and which nodes' keys it
// needs. A unit is a whole subtree or one chunk of a node that was split.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "src/core/index.hpp"
#include "src/plan/context/chunks.hpp"

namespace fpdist::plan {

/// Rows (they drive the linear layers) and pairs (they drive attention), as shares of the pack's in units of 2^-30:
/// finer than a row of any pack.
struct Share {
  static constexpr int64_t kWhole = int64_t{1} << 30;
  int64_t rows = 0, pairs = 0;
  int64_t load() const { return std::max(rows, pairs); }
  Share& operator+=(const Share& o) { return rows += o.rows, pairs += o.pairs, *this; }
  Share& operator-=(const Share& o) { return rows -= o.rows, pairs -= o.pairs, *this; }
  friend Share operator+(Share a, const Share& b) { return a += b; }
  friend Share operator-(Share a, const Share& b) { return a -= b; }
};

/// Turns rows (below 2^31) and pairs (shifted below 2^33) into shares without overflow.
class ShareScale {
 public:
  explicit ShareScale(const ChunkTree& tree);
  Share operator()(int64_t rows, int64_t pairs) const {
    return {rows * Share::kWhole / rows_, (pairs >> shift_) * Share::kWhole / pairs_};
  }

 private:
  int64_t rows_, pairs_;
  int shift_ = 0;
};

/// Chunks [begin, end) that stay together.
struct Unit {
  int32_t begin, end;
  int32_t needs;  ///< the node whose keys, and whose ancestors' keys, its owner needs; -1 for a whole tree
  int64_t rows;   ///< of a chunk; 0 for a whole subtree, which needs no key of its own rows from others
  Share share;
  bool root;  ///< a chunk of a root node
};

/// Subtrees with at most `most` of the pack stay whole; the others are split into chunks and smaller subtrees.
std::vector<Unit> make_units(const ChunkTree& tree, const ShareScale& scale, int64_t most);

class Placement {
 public:
  Placement(const ChunkTree& tree, const std::vector<Unit>& units, int64_t teams);

  void add(size_t unit, int64_t team);
  void remove(size_t unit);
  /// Key rows that `team` would have to receive in addition (the unit's own not counted).
  int64_t added_rows(size_t unit, int64_t team) const;
  /// added_rows for every team at once; `rows` [teams] is overwritten.
  void added_rows(size_t unit, std::vector<int64_t>& rows) const;
  /// Key rows that its team would no longer have to receive without the unit, which would then be one of others'.
  int64_t saved_rows(size_t unit) const;

  int64_t teams() const { return static_cast<int64_t>(load_.size()); }
  const std::vector<Unit>& units() const { return units_; }
  int64_t team_of(size_t unit) const { return team_of_[unit]; }
  const std::vector<size_t>& units_of(int64_t team) const { return units_of_[index(team)]; }
  const Share& load(int64_t team) const { return load_[index(team)]; }
  /// Rows of all nodes that the team needs, less its own: an upper bound of what it receives, exact but for the end of
  /// the lowest nodes.
  int64_t received(int64_t team) const { return needed_[index(team)]; }
  int64_t heaviest() const;  ///< team with the largest load
  int64_t worst_load() const { return load_[index(heaviest())].load(); }

 private:
  int32_t& users(int64_t node, int64_t team) { return users_[index(node * teams() + team)]; }
  int32_t users(int64_t node, int64_t team) const { return users_[index(node * teams() + team)]; }

  const ChunkTree& tree_;
  const std::vector<Unit>& units_;
  std::vector<int64_t> team_of_;               ///< [units] -1: nowhere
  std::vector<std::vector<size_t>> units_of_;  ///< [teams]
  std::vector<Share> load_;                    ///< [teams]
  std::vector<int64_t> needed_;                ///< [teams]
  std::vector<int32_t> users_;  ///< [nodes][teams] the team's units at and child nodes below that need it
};

}  // namespace fpdist::plan
