#pragma once
// plan: samples as the planner sees them: lengths and what they share, no tokens. Made from a length file, or from the
// radix forest of a step.

#include <cstdint>
#include <string>
#include <vector>

#include "src/plan/costs/amount.hpp"
#include "src/prefix/forest.hpp"

namespace fpdist::plan {

struct LengthNode {
  int32_t parent = -1;
  int64_t rows = 0;
  int64_t above = 0;  ///< tokens of its ancestors
  int64_t edges = 0;  ///< of its last tokens, supervised in every sample that passes through: work that is shared too
  Amount work() const { return {rows, prefix::visible_pairs(above, rows), edges}; }
};

/// A sample is the path down to `node`; its last `edges` tokens are supervised, each predicted from the row before it,
/// for this sample alone (what its nodes count is not counted again).
struct LengthSample {
  int32_t node = 0;
  int32_t line = 0;  ///< group: what a preference loss may not tear apart
  int64_t edges = 0;
};

struct LengthTree {
  std::vector<LengthNode> node;      ///< DFS pre-order
  std::vector<LengthSample> sample;  ///< in order of their nodes
  int32_t lines = 0;
  std::vector<int64_t> id;  ///< [lines] what messages call a line; empty: its number

  /// Work of every node once, and of every edge.
  Amount unique() const;
  /// Tokens of all samples, each with its whole path.
  int64_t tokens_logical() const;
};

/// Trees of a file, one a line: {"prefix": tokens, "completions": [tokens, ...]}, inner nodes with "children" (more
/// such objects) instead or besides. Completion tokens are supervised. Samples are numbered by their completions in
/// file order, depth first. Blank lines are skipped. Throws DataError with file:line and what is wrong.
LengthTree read_lengths(const std::string& path);
LengthTree parse_lengths(const std::string& text, const std::string& name);

}  // namespace fpdist::plan
