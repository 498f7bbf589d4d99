#pragma once
// plan: a pack cut into slices: runs of its rows in DFS pre-order, each ending where a wanted share of the pack's cost
// is reached.

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "fpdist/plan/stage_costs.hpp"
#include "src/plan/pack/length_tree.hpp"

namespace fpdist::plan {

/// Shares of a pack's cost are in 1/kWholePack: finer than a row of the largest pack, and products fit 128 bits.
constexpr int64_t kWholePack = int64_t{1} << 30;

class Slicer {
 public:
  Slicer(const LengthTree& tree, const StageCosts& costs) : tree_(tree), costs_(costs), seen_(tree.node.size()) {}

  /// Cuts a pack; the work of each slice is appended to `slices`. `ends` [slices - 1] are the shares at which all but
  /// the last end, ascending; every slice gets at least one row as long as there are rows. `samples` ascending.
  void cut(std::span<const int32_t> samples, std::span<const int64_t> ends, std::vector<Amount>& slices);
  /// Work of a pack that is not cut.
  Amount whole(std::span<const int32_t> samples);

 private:
  /// A node as it lies in the pack. Its edges leave the `edge_rows` rows before its last one and, `last_edges`, the
  /// last one.
  struct LaidNode {
    int64_t rows, above, edges, edge_rows, last_edges;
    Amount until(int64_t row) const;
  };
  void lay_out(std::span<const int32_t> samples);
  /// The last `edges` tokens of a node that is laid out, each from the row before it.
  void supervise(int32_t node, int64_t edges);
  /// Work of the pack up to row `row` of its `node`-th node.
  Amount until(size_t node, int64_t row) const;
  /// The last row of the pack at which `wanted` is not exceeded; `node` only grows.
  int64_t row_at(int64_t wanted, size_t& node) const;

  const LengthTree& tree_;
  StageCosts costs_;
  std::vector<std::pair<int32_t, int32_t>> seen_;  ///< by node of the tree: (visit, place in laid_)
  int32_t visit_ = 0;
  std::vector<LaidNode> laid_;  ///< nodes of the pack, in DFS pre-order
  std::vector<Amount> before_;  ///< [laid nodes + 1]
  std::vector<int32_t> path_;
};

}  // namespace fpdist::plan
