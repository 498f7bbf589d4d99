#pragma once
// plan: context parallelism over a tree. Which rank of the cp axis owns which rows of a pack, and which keys travel to
// whom and when. The same integers on every rank; nothing is asked of anyone at run time.
// Chunks never cross a node and have at most cp_chunk rows, fewer while a group would get fewer than 8 of them. Owners:
// whole subtrees where they are small enough, then longest processing time first on max(token share, pair share) with
// a price on keys that a group would have to receive, then moves and swaps; the split threshold tau is swept, root
// chunks are also tried in a zigzag, and the best plan kept. At last boundaries between owners shift by less than a
// chunk to level the load. Keys of root rows that every one of three or more groups needs travel a ring, others
// straight to the groups that need them (group-cast).

#include <cstddef>
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
  CpMethod method = CpMethod::kGroupCast;         ///< as asked for; kAuto and kUlysses mix rings and group-casts
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

/// Plans a pack that travels the pipeline in slices: slice s is the rows [slice_end[s - 1], slice_end[s]). One plan a
/// slice, whose rank_rows and group_rows are rows of that slice, balanced among themselves; its stages bring every key
/// of slices up to and including its own that a query of the slice sees and another group owns, straight from the owner
/// (keys of earlier slices stay with their owners). One slice: plan_context. Same errors.
std::vector<CpPlan> plan_context_slices(std::span<const prefix::Node> node, std::span<const int32_t> slice_end,
                                        const ParallelOptions& options, const CpCosts& costs);

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

/// Key rows that come to group `g` with stage s, ascending (-1: its own rows, there before the first stage). Over all
/// stages every visible key of every owned query comes exactly once.
std::vector<RowRange> keys_of_stage(const CpPlan& plan, int g, int s);

/// Heads of one rank of the tp axis; `key` counts K (and as many V) heads.
struct CpHeads {
  int64_t query = 1, key = 1, dim = 1;
};

/// Elements (not bytes) that one attention layer moves between ranks of the cp axis. [ranks] each. What a rank keeps
/// for itself counts nothing; nor do row counts or softmax statistics, which never travel.
///
/// A group's rank moves the rows of the group's messages for its own 1/U of the heads:
/// - `forward_keys_*`: K and V of every row of every stage's messages, relays included:
///   rows * 2 * key / U * dim. The backward fetches the same rows in the same stages once more.
/// - `gradients_*`: dK and dV of every row that the group received, needed or not, straight to the row's owner whoever
///   relayed it, in the stage that brought the row: rows * 2 * key / U * dim.
/// The head exchange is inside a group; a member has own rows, the other members the rest of the group's rows. Going in
/// (Q, K, V, dO) it sends its own rows U - 1 times and receives the rest once, coming back (O, dQ, dK, dV) the reverse:
/// - `forward_heads_*`: Q, K, V in, (query + 2 key) / U * dim a row; O back, query / U * dim.
/// - `backward_heads_*`: dO in, query / U * dim; dQ, dK, dV back, (query + 2 key) / U * dim. Q, K, V, O and the
///   log-sum-exp stay where the attention ran, on all rows of the group, and delta is computed there.
struct CpTraffic {
  std::vector<int64_t> forward_keys_sent, forward_keys_received;
  std::vector<int64_t> gradients_sent, gradients_received;
  std::vector<int64_t> forward_heads_sent, forward_heads_received;
  std::vector<int64_t> backward_heads_sent, backward_heads_received;
  int64_t forward_sent(size_t rank) const { return forward_keys_sent[rank] + forward_heads_sent[rank]; }
  int64_t backward_sent(size_t rank) const {
    return forward_keys_sent[rank] + gradients_sent[rank] + backward_heads_sent[rank];
  }
};

/// Throws ConfigError when the plan's head split does not divide both head counts.
CpTraffic predict_traffic(const CpPlan& plan, const CpHeads& heads);

}  // namespace fpdist::plan
