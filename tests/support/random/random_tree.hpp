#pragma once
// Tests: random forests as rows and subtree ends.

#include <ATen/ATen.h>

#include <algorithm>
#include <vector>

#include "fpdist/core/rng.hpp"
#include "fpdist/prefix/tree_layout.hpp"

namespace fpdist::test {

/// Subtree ends of a random forest of `rows` rows in DFS pre-order; nodes of 1 to `longest` rows.
inline std::vector<int32_t> random_subtree_ends(Rng& rng, int32_t rows, int32_t longest) {
  std::vector<int32_t> end(static_cast<size_t>(rows), rows);
  // A node [begin, cut) of the subtree [begin, stop) is followed by its children, which split [cut, stop).
  std::vector<std::pair<int32_t, int32_t>> open;
  const auto split = [&](int32_t begin, int32_t stop) {
    while (begin < stop) {
      const int32_t next = begin + 1 + static_cast<int32_t>(rng.below(static_cast<uint64_t>(stop - begin)));
      open.emplace_back(begin, next);
      begin = next;
    }
  };
  split(0, rows);
  while (!open.empty()) {
    const auto [begin, stop] = open.back();
    open.pop_back();
    const auto most = static_cast<uint64_t>(std::min(longest, stop - begin));
    const int32_t cut = begin + 1 + static_cast<int32_t>(rng.below(most));
    for (int32_t row = begin; row < cut; ++row) end[static_cast<size_t>(row)] = stop;
    split(cut, stop);
  }
  return end;
}

/// A prefix of `prefix` rows and `leaves` completions of `length` rows each.
inline std::vector<int32_t> fan_subtree_ends(int32_t prefix, int32_t leaves, int32_t length) {
  std::vector<int32_t> end(static_cast<size_t>(prefix), prefix + leaves * length);
  for (int32_t leaf = 1; leaf <= leaves; ++leaf)
    end.insert(end.end(), static_cast<size_t>(length), prefix + leaf * length);
  return end;
}

/// The nodes that these subtree ends describe, in DFS pre-order.
inline std::vector<prefix::Node> nodes_of(const std::vector<int32_t>& subtree_end) {
  std::vector<prefix::Node> nodes;
  std::vector<int32_t> path;  // open nodes
  for (int32_t row = 0; row < static_cast<int32_t>(subtree_end.size()); ++row) {
    const auto end_of = [&](int32_t node) {
      return subtree_end[static_cast<size_t>(nodes[static_cast<size_t>(node)].begin)];
    };
    while (!path.empty() && end_of(path.back()) <= row) path.pop_back();
    if (!path.empty()) {
      prefix::Node& open = nodes[static_cast<size_t>(path.back())];
      if (open.end == row && end_of(path.back()) == subtree_end[static_cast<size_t>(row)]) {
        ++open.end;
        continue;
      }
    }
    const int32_t parent = path.empty() ? -1 : path.back();
    const int32_t depth = parent < 0
                              ? 0
                              : nodes[static_cast<size_t>(parent)].depth + nodes[static_cast<size_t>(parent)].end -
                                    nodes[static_cast<size_t>(parent)].begin;
    path.push_back(static_cast<int32_t>(nodes.size()));
    nodes.push_back({.begin = row, .end = row + 1, .parent = parent, .depth = depth});
  }
  return nodes;
}

inline at::Tensor int_tensor(const std::vector<int32_t>& values) {
  return at::tensor(at::ArrayRef<int32_t>(values), at::kInt);
}

}  // namespace fpdist::test
