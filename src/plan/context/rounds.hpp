#pragma once
// plan: lowering of an owner map to what travels when: rings and group-casts.

#include <cstdint>
#include <span>
#include <vector>

#include "src/plan/context/chunks.hpp"
#include "src/plan/context/context_plan.hpp"

namespace fpdist::plan {

/// Appends `range` to ascending ranges, joined with the last one where they touch.
inline void append(std::vector<RowRange>& rows, RowRange range) {
  if (!rows.empty() && rows.back().end == range.begin)
    rows.back().end = range.end;
  else if (range.size() > 0)
    rows.push_back(range);
}

/// Rounds in which `rows` key rows travel where no ring sets their number: each at least as long as its messages need
/// to fill a link, and few, as attention runs once more for each.
int64_t rounds_for(int64_t rows);

/// Ascending, touching ranges joined.
void normalise(std::vector<RowRange>& rows);

int64_t count_rows(std::span<const RowRange> rows);

/// The rows of each team, ascending, touching chunks joined.
std::vector<std::vector<RowRange>> rows_of_owners(const ChunkTree& tree, std::span<const int32_t> owner, int teams);

/// [teams][rounds]; see CpPlan::round. `method` kRing: every row goes round; kGroupCast: every needed row goes
/// straight to its consumers; otherwise rows of root nodes that every team needs go round and the other needed rows
/// straight.
std::vector<std::vector<CpRound>> lower_to_rounds(const ChunkTree& tree, std::span<const int32_t> owner, int teams,
                                                  CpMethod method);

}  // namespace fpdist::plan
