#pragma once
// plan: the chunks of a pack, what context parallelism hands out, and which teams need the keys of each of them.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "fpdist/prefix/tree_layout.hpp"
#include "src/prefix/forest.hpp"

namespace fpdist::plan {

/// Rows [begin, end) of one node, and the visible (query, key) pairs of those queries.
struct Chunk {
  int32_t begin = 0, end = 0, node = 0;
  int64_t pairs = 0;
  int64_t rows() const { return end - begin; }
};

/// Chunks in row order, so that the chunks of a node, and those of a subtree, are consecutive.
struct ChunkTree {
  std::vector<Chunk> chunk;
  std::vector<int32_t> parent;                  ///< [nodes] -1 for a root
  std::vector<int32_t> first_chunk;             ///< [nodes + 1]; node v has chunks [first_chunk[v], first_chunk[v + 1])
  std::vector<int32_t> subtree_end;             ///< [nodes] one past the last node of the subtree
  std::vector<int32_t> node_begin, node_depth;  ///< [nodes] first row, and tokens above it
  std::vector<int64_t> node_rows;               ///< [nodes]
  std::vector<int64_t> subtree_rows, subtree_pairs;  ///< [nodes]
  int64_t rows = 0, pairs = 0;
  int64_t most_rows = 0;  ///< of a chunk
};

/// One past the last node of each subtree; nodes in pre-order.
std::vector<int32_t> subtree_ends(std::span<const prefix::Node> node);

/// Most chunks that a pack is cut into for its teams' sake: a search takes as long as there are chunks, times teams.
/// With 16 a rank alone, or 128 and 4, 13 packs instead of 7 end above the cap; more change hardly any plan.
inline int64_t most_chunks(int ranks) { return 128 + 16 * int64_t{ranks}; }

/// Cuts every node into chunks of `most_rows` rows, the last one shorter; less, halving, while a team would get fewer
/// than 8 chunks and the count stays within most_chunks.
ChunkTree make_chunks(std::span<const prefix::Node> node, int64_t most_rows, int teams, int ranks);

/// Teams, for each chunk, that own a later query below it: those that need its keys, the owner among them or not.
class ConsumerSets {
 public:
  ConsumerSets(const ChunkTree& tree, std::span<const int32_t> owner, int teams);

  bool has(int64_t chunk, int64_t team) const { return word(chunk)[team / 64] >> (team % 64) & 1; }
  /// Whether all teams but the owner need the chunk.
  bool everyone(int64_t chunk, int64_t owner) const;

  /// Calls visit(team) for every consumer but `owner`, ascending.
  template <typename Visit>
  void for_each(int64_t chunk, int64_t owner, Visit visit) const {
    for (int64_t w = 0; w < words_; ++w)
      for (uint64_t left = word(chunk)[w]; left != 0; left &= left - 1)
        if (const int64_t team = 64 * w + __builtin_ctzll(left); team != owner) visit(team);
  }

  /// Rows of other teams' keys that each team needs.
  std::vector<int64_t> received_rows(std::span<const Chunk> chunk, std::span<const int32_t> owner) const;

 private:
  const uint64_t* word(int64_t chunk) const { return bits_.data() + chunk * words_; }
  int64_t teams_, words_;
  std::vector<uint64_t> bits_;  ///< [chunks][words]
};

}  // namespace fpdist::plan
