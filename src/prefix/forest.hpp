#pragma once
// prefix: the compressed radix forest over token sequences. Prefixes are found from tokens alone, at any depth:
// ragged groups, identical samples, a sample contained in another, system prompts shared across groups.
// Cost: O(total tokens); a node boundary lies exactly where the set of samples passing through changes.

#include <cstdint>
#include <span>
#include <vector>

namespace fpdist::prefix {

/// Visible (query, key) pairs of `rows` queries in a row, the first of which has `depth` tokens above it.
inline int64_t visible_pairs(int64_t depth, int64_t rows) { return rows * depth + rows * (rows + 1) / 2; }

/// A run of tokens shared by the same samples. Roots have parent -1; there may be many roots.
struct ForestNode {
  int32_t parent;  ///< index in Forest::node, -1 for a root; parent < own index (DFS pre-order)
  int32_t sample;  ///< the first sample (lowest index) that passes through; its tokens are the node's tokens
  int64_t depth;   ///< tokens above the node: the run is token[depth .. depth+length) of that sample
  int64_t length;  ///< > 0
  /// (query, visible key) pairs of its tokens as queries.
  int64_t visible_pairs() const { return prefix::visible_pairs(depth, length); }
};

struct Forest {
  std::vector<ForestNode> node;    ///< DFS pre-order; children in order of their first sample
  std::vector<int32_t> last_node;  ///< [B] node that holds sample b's last token; -1 for a sample without tokens

  int64_t tokens() const;  ///< sum of node lengths: what is computed
  /// (query, visible key) pairs over all nodes.
  int64_t visible_pairs() const;
};

using TokenSpan = std::span<const int32_t>;

/// Builds the forest over `samples`. With `share` false every sample is a chain of its own (one root each).
/// The spans must stay alive during the call only. The result does not depend on `threads`; 0: one for some ten
/// thousands of samples, at most as many as there are processors for this process. Throws ConfigError for 2^30 samples
/// or more.
Forest make_forest(std::span<const TokenSpan> samples, bool share = true, int threads = 0);

}  // namespace fpdist::prefix
