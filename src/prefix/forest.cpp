// The forest by insertion: walk down while tokens match, split where they part, hang the rest as a new leaf. Samples by
// the million are cut into runs, each made into a forest by a thread of its own, whose nodes are then inserted in the
// order of the runs: a forest depends on its samples alone.

#include "src/prefix/forest.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <future>
#include <limits>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/core/index.hpp"
#include "src/prefix/flat_map.hpp"

namespace fpdist::prefix {
namespace {

/// Parent of the roots while building: a node of no tokens, so that roots are found like any other child.
constexpr int32_t kAboveRoots = 0;

class Builder {
 public:
  explicit Builder(std::span<const TokenSpan> samples) : samples_(samples), child_(2 * samples.size()) {
    node_.reserve(2 * samples.size() + 1);
    node_.push_back({-1, -1, 0, 0});
    last_node_.reserve(samples.size());
  }

  /// Adds the next sample, sharing what earlier ones already hold.
  void insert_shared() {
    const int32_t last = insert(next());
    last_node_.push_back(last == kAboveRoots ? -1 : last);
  }

  /// Adds the next sample as a chain of its own.
  void insert_alone() {
    const ForestNode chain = next();
    last_node_.push_back(chain.length == 0 ? -1 : append(chain));
  }

  /// Adds the next samples, whose forest this is.
  void insert_forest(const Forest& forest) {
    const auto first = static_cast<int32_t>(last_node_.size());
    std::vector<int32_t> last(forest.node.size());  // where the tokens of its nodes end
    for (size_t n = 0; n < last.size(); ++n) {
      const ForestNode& node = forest.node[n];
      const int32_t above = node.parent < 0 ? kAboveRoots : last[index(node.parent)];
      last[n] = insert({above, first + node.sample, node.depth, node.length});
    }
    for (const int32_t node : forest.last_node) last_node_.push_back(node < 0 ? -1 : last[index(node)]);
  }

  Forest finish() &&;

 private:
  /// The next sample, whole.
  ForestNode next() const {
    const size_t sample = last_node_.size();
    return {kAboveRoots, static_cast<int32_t>(sample), 0, static_cast<int64_t>(samples_[sample].size())};
  }

  /// Adds a run of tokens below a node that ends where it begins; returns the node that ends with it.
  int32_t insert(ForestNode run) {
    const TokenSpan tokens = samples_[index(run.sample)];
    while (run.length > 0) {
      const int32_t token = tokens[index(run.depth)], below = child_.at(run.parent, token);
      if (below < 0) {
        const int32_t leaf = append(run);
        child_.at(run.parent, token) = leaf;
        return leaf;
      }
      const auto common = static_cast<int64_t>(matching(below, tokens.subspan(index(run.depth), index(run.length))));
      run.depth += common, run.length -= common;
      run.parent = common < node_[index(below)].length ? split(below, common) : below;
    }
    return run.parent;
  }

  int32_t append(const ForestNode& leaf) {
    node_.push_back(leaf);
    return static_cast<int32_t>(node_.size()) - 1;
  }

  size_t matching(int32_t below, TokenSpan tokens) const {
    const ForestNode& node = node_[index(below)];
    const TokenSpan run = samples_[index(node.sample)].subspan(index(node.depth), index(node.length));
    const size_t most = std::min(run.size(), tokens.size());
    return index(std::mismatch(run.begin(), run.begin() + static_cast<std::ptrdiff_t>(most), tokens.begin()).first -
                 run.begin());
  }

  /// Cuts the first `length` tokens of `below` off into a new node above it and returns that. The lower part keeps its
  /// index, so its children and the samples that end in it need no change: O(1) however wide the node is.
  int32_t split(int32_t below, int64_t length) {
    const auto upper = static_cast<int32_t>(node_.size());
    ForestNode head = node_[index(below)];
    head.length = length;
    ForestNode& tail = node_[index(below)];
    tail.parent = upper;
    tail.depth += length;
    tail.length -= length;
    const TokenSpan tokens = samples_[index(head.sample)];
    child_.at(head.parent, tokens[index(head.depth)]) = upper;
    child_.at(upper, tokens[index(tail.depth)]) = below;
    node_.push_back(head);
    return upper;
  }

  std::span<const TokenSpan> samples_;
  std::vector<ForestNode> node_;
  std::vector<int32_t> last_node_;
  FlatMap child_;  // (node, first token of the child) -> child
};

/// DFS pre-order, children in order of their first sample. Siblings never share their first sample, so one pass over
/// the nodes by descending first sample, pushing each in front of its siblings, leaves every list in order.
Forest Builder::finish() && {
  const size_t nodes = node_.size();
  std::vector<int32_t> of_sample(samples_.size(), -1), same_sample(nodes, -1);
  for (size_t n = 1; n < nodes; ++n)
    same_sample[n] = std::exchange(of_sample[index(node_[n].sample)], static_cast<int32_t>(n));
  std::vector<int32_t> first_child(nodes, -1), next_sibling(nodes, -1);
  for (size_t sample = samples_.size(); sample-- > 0;)
    for (int32_t n = of_sample[sample]; n >= 0; n = same_sample[index(n)])
      next_sibling[index(n)] = std::exchange(first_child[index(node_[index(n)].parent)], n);

  Forest forest;
  forest.node.reserve(nodes - 1);
  std::vector<int32_t> position(nodes, -1), stack;
  if (first_child[kAboveRoots] >= 0) stack.push_back(first_child[kAboveRoots]);
  while (!stack.empty()) {
    const size_t n = index(stack.back());
    stack.pop_back();
    if (next_sibling[n] >= 0) stack.push_back(next_sibling[n]);
    if (first_child[n] >= 0) stack.push_back(first_child[n]);
    position[n] = static_cast<int32_t>(forest.node.size());
    forest.node.push_back(node_[n]);
    forest.node.back().parent = position[index(node_[n].parent)];
  }
  forest.last_node = std::move(last_node_);
  for (int32_t& last : forest.last_node)
    if (last >= 0) last = position[index(last)];
  return forest;
}

}  // namespace

int64_t Forest::tokens() const {
  int64_t sum = 0;
  for (const ForestNode& n : node) sum += n.length;
  return sum;
}

int64_t Forest::visible_pairs() const {
  int64_t sum = 0;
  for (const ForestNode& n : node) sum += n.visible_pairs();
  return sum;
}

namespace {

Forest forest_of(std::span<const TokenSpan> samples, bool share) {
  Builder builder(samples);
  for (size_t sample = 0; sample < samples.size(); ++sample) share ? builder.insert_shared() : builder.insert_alone();
  return std::move(builder).finish();
}

}  // namespace

Forest make_forest(std::span<const TokenSpan> samples, bool share, int threads) {
  check<ConfigError>(samples.size() < index(std::numeric_limits<int32_t>::max() / 2), "a forest of ", samples.size(),
                     " samples is too large: lower train.groups_per_step");
  constexpr size_t kSamplesAThread = 32768;  // some 30 ms
  const size_t runs = threads > 0
                          ? index(threads)
                          : std::min<size_t>(std::thread::hardware_concurrency(), samples.size() / kSamplesAThread);
  if (!share || runs <= 1) return forest_of(samples, share);
  std::vector<std::future<Forest>> parts;
  for (size_t run = 0; run < runs; ++run) {
    const size_t begin = samples.size() * run / runs, end = samples.size() * (run + 1) / runs;
    parts.push_back(std::async(std::launch::async, forest_of, samples.subspan(begin, end - begin), true));
  }
  Builder builder(samples);
  for (std::future<Forest>& part : parts) builder.insert_forest(part.get());
  return std::move(builder).finish();
}

}  // namespace fpdist::prefix
