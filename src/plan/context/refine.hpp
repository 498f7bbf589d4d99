#pragma once
// plan: local search on a placement of units, and the fine levelling of chunk boundaries.

#include <cstdint>
#include <span>
#include <vector>

#include "src/plan/context/chunks.hpp"
#include "src/plan/context/placement.hpp"

namespace fpdist::plan {

/// Work that a search may still do, in examined moves: counted, not timed, so that every machine stops at the same one.
struct SearchBudget {
  int64_t left;
  bool spend(int64_t moves) { return (left -= moves) > 0; }
};

/// Moves and swaps units of the heaviest team until its load is at most `target` or nothing helps.
void balance(Placement& placement, int64_t target, SearchBudget& budget);

/// Moves and swaps units of the team that receives most, so that it receives less and no team carries more than
/// `most` or receives more than it did.
void reduce_received(Placement& placement, int64_t most, SearchBudget& budget);

/// Shifts boundaries between chunks of one node that have different owners until no team's load exceeds `target` or
/// nothing helps. Returns the worst load.
int64_t level_boundaries(const ChunkTree& tree, const ShareScale& scale, std::span<const int32_t> owner, int teams,
                         int64_t target, std::vector<Chunk>& chunk);

}  // namespace fpdist::plan
