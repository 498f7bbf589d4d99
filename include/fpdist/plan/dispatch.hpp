#pragma once
// plan: context parallelism over a tree. Which rank of the cp axis owns which rows of a pack, and which keys travel to
// whom and when. The same integers on every rank; nothing is asked of anyone at run time.
// Chunks never cross a node. Owners: whole subtrees where they are small enough, then longest processing time first on
// max(token share, pair share), then moves and swaps; the split threshold tau is swept and the best plan kept. Keys of
// rows that every rank needs travel a ring, others straight to the ranks that need them (group-cast).

#include <cstdint>
#include <span>
#include <vector>

#include "fpdist/plan/options.hpp"
#include "fpdist/prefix/tree_layout.hpp"

namespace fpdist::plan {

/// Rows [begin, end) of a pack.
struct RowRange {
  int32_t begin = 0, end = 0;
  int32_t size() const { return end - begin; }
  bool operator==(const RowRange&) const = default;
};

/// Keys for one peer in one stage, coalesced: all rows of all ranges, ascending.
struct KeyMessage {
  int32_t peer = 0;  ///< group, see CpPlan
  std::vector<RowRange> rows;
  bool operator==(const KeyMessage&) const = default;
};

/// What travels at the same time. A row sent in stage s is owned or was received in stage s - 1 (rings relay).
struct CpStage {
  std::vector<KeyMessage> send, receive;  ///< by peer; at most one each a peer
};

/// `ulysses` U consecutive ranks of the cp axis form a group: cp rank r is member r % U of group r / U. A group owns
/// rows of the pack; for attention each of its members holds all of the group's rows and 1/U of the heads; everywhere
/// else member m holds the m-th of U nearly equal runs of the group's rows.
struct CpPlan {
  int ranks = 1, ulysses = 1;
  CpMethod method = CpMethod::kGroupCast;
  std::vector<std::vector<RowRange>> rank_rows;   ///< [ranks] rows of each rank, ascending
  std::vector<std::vector<RowRange>> group_rows;  ///< [ranks / ulysses] rows that each group's attention answers for
  std::vector<std::vector<CpStage>> stage;        ///< [ranks / ulysses][stages], the same number for every group
  int groups() const { return ranks / ulysses; }
};

/// How many bytes (or any unit) one key row and one row of queries, keys, values and outputs weigh, for the choice
/// between methods: `key_bytes` = K and V of one row over all KV heads of a tp rank; `head_bytes` = Q, K, V and O.
struct CpCosts {
  int64_t key_bytes = 1, head_bytes = 4;
  int max_ulysses = 1;  ///< largest head split that the model allows (divides the KV heads of a tp rank)
};

/// Plans one pack. `node` as in TreeLayout (DFS pre-order). Works for any number of rows, 0 included, and any number of
/// ranks; a rank may own nothing. Not collective.
/// Throws ConfigError when options.ulysses does not divide cp or costs.max_ulysses.
CpPlan plan_context(std::span<const prefix::Node> node, const ParallelOptions& options, const CpCosts& costs);

/// What a plan costs, for tests, benches and the planner.
struct CpLoad {
  std::vector<int64_t> rows, pairs;     ///< [groups]
  std::vector<int64_t> received, sent;  ///< [groups] key rows, relays included
  int64_t total_pairs = 0, total_rows = 0;
};
CpLoad load_of(const CpPlan& plan, std::span<const prefix::Node> node);

/// Lower bound on the key rows that the worst of `groups` groups receives, at imbalance `cap_percent` (102 = 1.02):
/// the larger of the two bounds of the tree mask (deepest path; ranks below each node).
int64_t received_bound(std::span<const prefix::Node> node, int groups, int cap_percent = 102);

/// Key rows that group `g` holds after stage s (-1: before the first): tests use it to see that every visible key of
/// every owned query is there exactly once over all stages.
std::vector<RowRange> keys_of_stage(const CpPlan& plan, int g, int s);

}  // namespace fpdist::plan
