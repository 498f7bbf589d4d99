#pragma once
// plan: who owns which chunk. Subtrees stay whole where they are small enough, then longest processing time first, then
// moves and swaps, then the boundaries between owners inside a node are shifted; several split thresholds are tried and
// the best outcome is kept. Integers only, ties to the lower index: the same owners on every machine.

#include <cstdint>
#include <vector>

#include "src/plan/context/chunks.hpp"

namespace fpdist::plan {

/// Percent of the mean that a team may carry, as received_bound takes it. Balance within the cap is as good as perfect;
/// the search itself aims lower, so that the cap is met with room.
inline constexpr int64_t kBalanceCapPercent = 102;

/// What an owner map is judged by, in this order; smaller is better.
struct OwnerScore {
  int64_t imbalance = 0;   ///< percent of the mean that the worst team carries, at least the cap
  int64_t worst_rows = 0;  ///< key rows that the worst team receives
  int64_t all_rows = 0;    ///< and all teams together
  int64_t worst_load = 0;  ///< the worst team's share of rows or pairs
  auto operator<=>(const OwnerScore&) const = default;
};

struct Owners {
  std::vector<Chunk> chunk;    ///< the tree's, with boundaries shifted
  std::vector<int32_t> owner;  ///< [chunks] team
  OwnerScore score;
};

/// `bound`: received_bound of the same pack; an owner map that meets it ends the search.
Owners choose_owners(const ChunkTree& tree, int teams, int64_t bound);

}  // namespace fpdist::plan
