#pragma once
// Tests: whether any packing without a pipeline is better than a given one: samples are placed one at a time, largest
// first, into every pack of every replica or a new one; a branch ends when its lower bound is no better.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

#include "src/plan/costs/unit_cost.hpp"
#include "src/plan/pack/length_tree.hpp"

namespace fpdist::test {

class BranchAndBound {
 public:
  BranchAndBound(const plan::LengthTree& tree, const plan::StageCosts& costs, int replicas, int64_t max_tokens)
      : tree_(tree), max_tokens_(max_tokens), load_(static_cast<size_t>(replicas)), packs_(load_.size()) {
    overhead_ = plan::total_work(costs, {costs.overhead_rows, 0, 0});
    for (const plan::LengthNode& node : tree.node) node_cost_.push_back(plan::total_work(costs, node.work()));
    for (const plan::LengthSample& sample : tree.sample)
      edge_cost_.push_back(plan::total_work(costs, {0, 0, sample.edges}));
    uses_.resize(tree.node.size());
    order_.resize(tree.sample.size());
    std::iota(order_.begin(), order_.end(), size_t{0});
    std::stable_sort(order_.begin(), order_.end(), [&](size_t a, size_t b) { return alone(a) > alone(b); });
    left_ = std::accumulate(node_cost_.begin(), node_cost_.end(),
                            std::accumulate(edge_cost_.begin(), edge_cost_.end(), int64_t{0}));
    int64_t rows = 0;
    for (const plan::LengthNode& node : tree.node) rows += node.rows;
    packs_left_ = (rows + max_tokens - 1) / max_tokens;
  }

  enum class Answer { kNone, kFound, kGaveUp };
  /// Is there a packing whose slowest replica takes less than `goal`? Gives up after `nodes` placements.
  Answer better_than(int64_t goal, int64_t nodes) {
    goal_ = goal, nodes_ = nodes;
    const bool found = place(0);
    return found ? Answer::kFound : nodes_ < 0 ? Answer::kGaveUp : Answer::kNone;
  }

 private:
  struct Pack {
    int64_t rows = 0;
    std::vector<int> uses;  ///< [nodes]
  };

  int64_t alone(size_t sample) const {
    int64_t cost = edge_cost_[sample];
    for (int32_t n = tree_.sample[sample].node; n >= 0; n = tree_.node[static_cast<size_t>(n)].parent)
      cost += node_cost_[static_cast<size_t>(n)];
    return cost;
  }

  /// What is placed, and what is left once, spread evenly; and as many packs as all rows need.
  int64_t bound() const {
    int64_t sum = left_, packs = 0;
    for (size_t r = 0; r < load_.size(); ++r) sum += load_[r], packs += static_cast<int64_t>(packs_[r].size());
    sum += std::max<int64_t>(0, packs_left_ - packs) * overhead_;
    const auto replicas = static_cast<int64_t>(load_.size());
    return std::max((sum + replicas - 1) / replicas, *std::max_element(load_.begin(), load_.end()));
  }

  bool place(size_t at) {
    if (bound() >= goal_ || --nodes_ < 0) return false;
    if (at == order_.size()) return true;
    bool tried_empty = false;
    for (size_t r = 0; r < load_.size(); ++r) {
      if (packs_[r].empty() && tried_empty) continue;  // empty replicas are alike
      tried_empty = tried_empty || packs_[r].empty();
      for (size_t p = 0; p <= packs_[r].size(); ++p)
        if (place_in(at, r, p)) return true;
    }
    return false;
  }

  bool place_in(size_t at, size_t r, size_t p) {
    const size_t sample = order_[at];
    const int64_t load = load_[r], left = left_;
    const bool is_new = p == packs_[r].size();
    if (is_new) packs_[r].push_back({0, std::vector<int>(tree_.node.size())}), load_[r] += overhead_;
    const int64_t rows = packs_[r][p].rows;
    load_[r] += edge_cost_[sample], left_ -= edge_cost_[sample];
    for (int32_t n = tree_.sample[sample].node; n >= 0; n = tree_.node[static_cast<size_t>(n)].parent) {
      const auto node = static_cast<size_t>(n);
      if (uses_[node]++ == 0) left_ -= node_cost_[node];
      if (packs_[r][p].uses[node]++ > 0) continue;
      load_[r] += node_cost_[node];
      packs_[r][p].rows += tree_.node[node].rows;
    }
    const bool found = packs_[r][p].rows <= max_tokens_ && place(at + 1);
    for (int32_t n = tree_.sample[sample].node; n >= 0; n = tree_.node[static_cast<size_t>(n)].parent)
      --uses_[static_cast<size_t>(n)], --packs_[r][p].uses[static_cast<size_t>(n)];
    load_[r] = load, left_ = left, packs_[r][p].rows = rows;
    if (is_new) packs_[r].pop_back();
    return found;
  }

  const plan::LengthTree& tree_;
  int64_t max_tokens_, overhead_ = 0, left_ = 0, packs_left_ = 0, goal_ = 0, nodes_ = 0;
  std::vector<int64_t> node_cost_, edge_cost_, load_;
  std::vector<std::vector<Pack>> packs_;  ///< [replicas]
  std::vector<int> uses_;                 ///< [nodes] packs that hold it, and samples through it
  std::vector<size_t> order_;
};

}  // namespace fpdist::test
