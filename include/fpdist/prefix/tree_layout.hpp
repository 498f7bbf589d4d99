#pragma once
// prefix: TreeLayout, one pack in DFS pre-order: what every other room computes with.
// Invariants: key j is visible to query i iff j <= i < subtree_end[j]; depth is the rotary position; the first token of
// every branch is an edge from the last row of its parent, once per branch.

#include <cstdint>
#include <span>
#include <vector>

#include "fpdist/data/sample.hpp"

namespace fpdist::prefix {

struct Node {
  int32_t begin, end;  ///< rows [begin, end)
  int32_t parent;      ///< index of the parent node, -1 for a root
  int32_t depth;       ///< tokens above: position of the first row
};

struct SampleRef {
  int32_t group;       ///< index of the sample's group in the pack's list (0, 1, ... in order of appearance)
  int32_t index;       ///< index of the sample in its group
  int32_t first_edge;  ///< its edges are [first_edge, first_edge + edges)
  int32_t edges;
  int32_t last_row;  ///< row of its last token; -1 for a sample without tokens
};

/// T rows, S scores, E edges, B samples.
struct TreeLayout {
  std::vector<int32_t> token, depth, subtree_end;  ///< [T]
  std::vector<Node> node;                          ///< DFS pre-order
  std::vector<int32_t> score_row, score_target;    ///< [S] distinct (source row, target token), ascending by row
  std::vector<int32_t> edge_score, edge_sample, edge_index;  ///< [E] by sample, then index (position t of the target)
  std::vector<SampleRef> sample;                             ///< [B]

  int64_t rows() const { return static_cast<int64_t>(token.size()); }
  int64_t scores() const { return static_cast<int64_t>(score_row.size()); }
  int64_t edges() const { return static_cast<int64_t>(edge_score.size()); }
};

/// One sample of a pack: which group (any int, equal = same group), which index in it, and its tokens and targets.
struct PackMember {
  int64_t group;
  int32_t index;
  const data::Sample* sample;
};

/// Lays `members` out as trees, in their order; `share` false gives every sample a chain of its own.
TreeLayout make_layout(std::span<const PackMember> members, bool share = true);

}  // namespace fpdist::prefix
