#include "src/plan/pack/slicer.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "src/core/index.hpp"
#include "src/plan/costs/unit_cost.hpp"
#include "src/plan/pack/bundle.hpp"

namespace fpdist::plan {
namespace {}  // namespace

Amount Slicer::LaidNode::until(int64_t row) const {
  Amount work{row, prefix::visible_pairs(above, row), 0};
  if (edge_rows > 0) work.edges = edges * std::clamp<int64_t>(row - (rows - 1 - edge_rows), 0, edge_rows) / edge_rows;
  if (row == rows) work.edges += last_edges;
  return work;
}

void Slicer::lay_out(std::span<const int32_t> samples) {
  laid_.clear();
  ++visit_;
  for (const int32_t s : samples) {
    const LengthSample& sample = tree_.sample[index(s)];
    path_.clear();
    for (int32_t n = sample.node; n >= 0 && seen_[index(n)].first != visit_; n = tree_.node[index(n)].parent)
      path_.push_back(n);
    for (; !path_.empty(); path_.pop_back()) {
      const LengthNode& node = tree_.node[index(path_.back())];
      seen_[index(path_.back())] = {visit_, static_cast<int32_t>(laid_.size())};
      laid_.push_back({node.rows, node.above, 0, 0, 0});
      if (node.edges > 0) supervise(path_.back(), node.edges);
    }
    supervise(sample.node, sample.edges);
  }
}

void Slicer::supervise(int32_t node, int64_t edges) {
  LaidNode& own = laid_[index(seen_[index(node)].second)];
  const int64_t inside = std::min(edges, std::max<int64_t>(0, own.rows - 1));
  own.edges += inside;
  own.edge_rows = std::max(own.edge_rows, inside);
  // The first token of a branch is predicted from the last row above it.
  int32_t above = tree_.node[index(node)].parent;
  while (above >= 0 && tree_.node[index(above)].rows == 0) above = tree_.node[index(above)].parent;
  (above >= 0 ? laid_[index(seen_[index(above)].second)] : own).last_edges += edges - inside;
}

Amount Slicer::whole(std::span<const int32_t> samples) {
  std::vector<Amount> slices;
  cut(samples, {}, slices);
  return slices[0];
}

Amount Slicer::until(size_t node, int64_t row) const {
  Amount work = before_[node];
  return work += laid_[node].until(row);
}

int64_t Slicer::row_at(int64_t wanted, size_t& node) const {
  while (node + 1 < laid_.size() && total_work(costs_, before_[node + 1]) <= wanted) ++node;
  int64_t low = 0, high = laid_[node].rows;
  while (low < high) {
    const int64_t middle = low + (high - low + 1) / 2;
    if (total_work(costs_, until(node, middle)) <= wanted) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return before_[node].rows + low;
}

void Slicer::cut(std::span<const int32_t> samples, std::span<const int64_t> ends, std::vector<Amount>& slices) {
  lay_out(samples);
  before_.assign(1, Amount{});
  for (size_t node = 0; node < laid_.size(); ++node) before_.push_back(until(node, laid_[node].rows));
  const Amount all = before_.back();
  const int64_t total = total_work(costs_, all);
  Amount done;
  size_t node = 0;
  for (size_t i = 0; i < ends.size(); ++i) {
    int64_t row = row_at(scaled(total, ends[i], kWholePack), node);
    // One row at least here, and one for each slice that follows.
    row = std::max(std::min(row, all.rows - static_cast<int64_t>(ends.size() - i)), std::min(done.rows + 1, all.rows));
    size_t at = node;
    while (at > 0 && before_[at].rows > row) --at;
    while (at + 1 < laid_.size() && before_[at + 1].rows < row) ++at;
    const Amount end = until(at, row - before_[at].rows);
    slices.push_back(end);
    slices.back() -= done;
    done = end;
  }
  slices.push_back(all);
  slices.back() -= done;
}

}  // namespace fpdist::plan
