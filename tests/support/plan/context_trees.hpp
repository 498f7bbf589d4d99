#pragma once
// Tests: trees for the tests of context-parallel dispatch: the six of the design, and random forests.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "fpdist/core/rng.hpp"
#include "fpdist/prefix/tree_layout.hpp"

namespace fpdist::test {

/// Appends a node below `parent` (-1: a root) and returns its index; call in DFS pre-order.
inline int32_t add_node(std::vector<prefix::Node>& node, int32_t parent, int32_t rows) {
  const int32_t begin = node.empty() ? 0 : node.back().end;
  int32_t depth = 0;
  if (parent >= 0) {
    const prefix::Node& above = node[static_cast<size_t>(parent)];
    depth = above.depth + above.end - above.begin;
  }
  node.push_back({begin, begin + rows, parent, depth});
  return static_cast<int32_t>(node.size()) - 1;
}

struct NamedTree {
  std::string name;
  std::vector<prefix::Node> node;
  int64_t published_rows;  ///< worst received key rows at 8 ranks, best column of the design's table
};

/// A root of `prefix` rows with one leaf for each length.
inline std::vector<prefix::Node> star(int32_t prefix, const std::vector<int32_t>& leaves) {
  std::vector<prefix::Node> node;
  const int32_t root = add_node(node, -1, prefix);
  for (const int32_t rows : leaves) add_node(node, root, rows);
  return node;
}

inline std::array<NamedTree, 6> design_trees() {
  constexpr int32_t k = 1024;
  std::vector<int32_t> spread;  // 200 .. 1800 rows, in no order
  for (int32_t i = 0; i < 16; ++i) spread.push_back(200 + 1600 * (i * 7 % 16) / 15);
  std::vector<prefix::Node> levels;
  const int32_t root = add_node(levels, -1, 32 * k);
  for (int i = 0; i < 8; ++i) {
    const int32_t inner = add_node(levels, root, 4 * k);
    for (int leaf = 0; leaf < 4; ++leaf) add_node(levels, inner, k);
  }
  return {{{"A 16K + 16 x 1K", star(16 * k, std::vector<int32_t>(16, k)), 14336},
           {"B 16K + 16 x (0.2-1.8K)", star(16 * k, spread), 14600},
           {"C 64K + 2 x 4K", star(64 * k, {4 * k, 4 * k}), 60416},
           {"D 8K + 64 x 2K", star(8 * k, std::vector<int32_t>(64, 2 * k)), 7168},
           {"E 32K + 8 x (4K + 4 x 1K)", std::move(levels), 28672},
           {"F causal 64K", star(64 * k, {}), 57344}}};
}

/// A forest of 0 .. `most_nodes` nodes of 1 .. `most_rows` rows.
inline std::vector<prefix::Node> random_forest(Rng& rng, uint64_t most_nodes, uint64_t most_rows) {
  std::vector<prefix::Node> node;
  std::vector<int32_t> path;  // open nodes: the next one hangs below one of these, or is a root
  const uint64_t nodes = rng.below(most_nodes + 1), roots = 1 + rng.below(4);
  for (uint64_t v = 0; v < nodes; ++v) {
    path.resize(rng.below(roots) == 0 ? rng.below(path.size() + 1) : path.size() - rng.below(path.size() ? 2 : 1));
    const auto rows = static_cast<int32_t>(rng.below(4) == 0 ? 1 : 1 + rng.below(most_rows));
    path.push_back(add_node(node, path.empty() ? -1 : path.back(), rows));
  }
  return node;
}

/// [T] one past the last row of each row's subtree, from the nodes alone.
inline std::vector<int32_t> row_ends(std::span<const prefix::Node> node) {
  std::vector<int32_t> last(node.size());  // end of each node's subtree
  for (size_t v = node.size(); v-- > 0;) {
    last[v] = std::max(last[v], node[v].end);
    if (node[v].parent < 0) continue;
    int32_t& above = last[static_cast<size_t>(node[v].parent)];
    above = std::max(above, last[v]);
  }
  std::vector<int32_t> end;
  for (size_t v = 0; v < node.size(); ++v)
    end.insert(end.end(), static_cast<size_t>(node[v].end - node[v].begin), last[v]);
  return end;
}

}  // namespace fpdist::test
