#include "src/plan/context/chunks.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "src/core/index.hpp"

namespace fpdist::plan {
namespace {

/// Chunks of a team, at least: what can be moved to level it. 1 to 4: two more packs above the cap; 16: keys 1.59, in
/// shorter runs of rows.
constexpr int64_t kChunksPerTeam = 8;

int64_t parts_of(const prefix::Node& node, int64_t most_rows) {
  return (node.end - node.begin + most_rows - 1) / most_rows;
}

int64_t count_chunks(std::span<const prefix::Node> node, int64_t most_rows) {
  int64_t count = 0;
  for (const prefix::Node& n : node) count += parts_of(n, most_rows);
  return count;
}

}  // namespace

std::vector<int32_t> subtree_ends(std::span<const prefix::Node> node) {
  std::vector<int32_t> end(node.size());
  for (size_t v = node.size(); v-- > 0;) {
    end[v] = std::max(end[v], static_cast<int32_t>(v) + 1);
    if (node[v].parent >= 0) end[index(node[v].parent)] = std::max(end[index(node[v].parent)], end[v]);
  }
  return end;
}

ChunkTree make_chunks(std::span<const prefix::Node> node, int64_t most_rows, int teams, int ranks) {
  int64_t count = count_chunks(node, most_rows);
  while (most_rows > 1 && count < kChunksPerTeam * teams) {
    const int64_t finer = count_chunks(node, (most_rows + 1) / 2);
    if (finer > most_chunks(ranks)) break;
    most_rows = (most_rows + 1) / 2;
    count = finer;
  }
  ChunkTree tree;
  tree.most_rows = most_rows;
  tree.chunk.reserve(index(count));
  tree.first_chunk.reserve(node.size() + 1);
  tree.parent.reserve(node.size());
  tree.subtree_end = subtree_ends(node);
  for (size_t v = 0; v < node.size(); ++v) {
    tree.parent.push_back(node[v].parent);
    tree.node_begin.push_back(node[v].begin);
    tree.node_depth.push_back(node[v].depth);
    tree.node_rows.push_back(node[v].end - node[v].begin);
    tree.subtree_rows.push_back(tree.node_rows.back());
    tree.subtree_pairs.push_back(prefix::visible_pairs(node[v].depth, tree.node_rows.back()));
    tree.first_chunk.push_back(static_cast<int32_t>(tree.chunk.size()));
    // Whole chunks first, the rest last: a short tail is better for the kernel than many odd sizes.
    for (int32_t begin = node[v].begin; begin < node[v].end;) {
      const auto end = static_cast<int32_t>(std::min<int64_t>(node[v].end, begin + most_rows));
      const int64_t pairs = prefix::visible_pairs(node[v].depth + begin - node[v].begin, end - begin);
      tree.chunk.push_back({begin, end, static_cast<int32_t>(v), pairs});
      tree.pairs += pairs;
      begin = end;
    }
    tree.rows += tree.node_rows[v];
  }
  for (size_t v = node.size(); v-- > 0;) {
    if (node[v].parent < 0) continue;
    tree.subtree_rows[index(node[v].parent)] += tree.subtree_rows[v];
    tree.subtree_pairs[index(node[v].parent)] += tree.subtree_pairs[v];
  }
  tree.first_chunk.push_back(static_cast<int32_t>(tree.chunk.size()));
  return tree;
}

ConsumerSets::ConsumerSets(const ChunkTree& tree, std::span<const int32_t> owner, int teams)
    : teams_(teams), words_((teams + 63) / 64), bits_(tree.chunk.size() * index(words_)) {
  // From the back, every node collects the owners of what lies after and below.
  std::vector<uint64_t> below(tree.parent.size() * index(words_));
  for (int64_t v = static_cast<int64_t>(tree.parent.size()); v-- > 0;) {
    uint64_t* const mine = below.data() + v * words_;
    for (int64_t c = tree.first_chunk[index(v + 1)]; c-- > tree.first_chunk[index(v)];) {
      std::copy_n(mine, words_, bits_.data() + c * words_);
      mine[owner[index(c)] / 64] |= uint64_t{1} << (owner[index(c)] % 64);
    }
    if (tree.parent[index(v)] < 0) continue;
    uint64_t* const above = below.data() + tree.parent[index(v)] * words_;
    for (int64_t w = 0; w < words_; ++w) above[w] |= mine[w];
  }
}

bool ConsumerSets::everyone(int64_t chunk, int64_t owner) const {
  int64_t others = 0;
  for (int64_t w = 0; w < words_; ++w) others += __builtin_popcountll(word(chunk)[w]);
  return others - has(chunk, owner) == teams_ - 1;
}

std::vector<int64_t> ConsumerSets::received_rows(std::span<const Chunk> chunk, std::span<const int32_t> owner) const {
  std::vector<int64_t> rows(index(teams_));
  for (size_t c = 0; c < chunk.size(); ++c)
    for_each(static_cast<int64_t>(c), owner[c], [&](int64_t g) { rows[index(g)] += chunk[c].rows(); });
  return rows;
}

}  // namespace fpdist::plan
