#pragma once
// plan: context parallelism over a tree. Which rank of the cp axis owns which rows of a pack, and which keys travel to
// whom and when. The same integers on every rank; nothing is asked of anyone at run time.
// Chunks never cross a node and have at most cp_chunk rows, fewer while a team would get fewer than 8 of them. Owners:
// whole subtrees where they are small enough, then longest processing time first on max(token share, pair share) with
// a price on keys that a team would have to receive, then moves and swaps; the split threshold tau is swept, root
// chunks are also tried in a zigzag, and the best plan kept. At last boundaries between owners shift by less than a
// chunk to level the load. Keys of root rows that every one of three or more teams needs travel a ring, others
// straight to the teams that need them (group-cast).

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "fpdist/plan/options.hpp"
#include "fpdist/plan/stage_costs.hpp"
#include "fpdist/prefix/tree_layout.hpp"

namespace fpdist::plan {

/// Rows [begin, end) of a pack.
struct RowRange {
  int32_t begin = 0, end = 0;
  int32_t size() const { return end - begin; }
  bool operator==(const RowRange&) const = default;
};

/// Keys for one peer in one round, coalesced: all rows of all ranges, ascending.
struct KeyMessage {
  int32_t peer = 0;  ///< team, see CpPlan
  std::vector<RowRange> rows;
  bool operator==(const KeyMessage&) const = default;
};

/// Messages of one team that travel at the same time. A row sent in round s is owned or was received in round s - 1
/// (rings relay).
struct CpRound {
  std::vector<KeyMessage> send, receive;  ///< by peer; at most one each a peer
};

/// `ulysses` U consecutive ranks of the cp axis form a team: cp rank r is member r % U of team r / U. A team owns
/// rows of the pack; for attention each of its members holds all of the team's rows and 1/U of the heads; everywhere
/// else member m holds the m-th of U nearly equal runs of the team's rows.
struct CpPlan {
  int ranks = 1, ulysses = 1;
  CpMethod method = CpMethod::kGroupCast;        ///< as asked for; kAuto and kUlysses mix rings and group-casts
  std::vector<std::vector<RowRange>> rank_rows;  ///< [ranks] rows of each rank, ascending
  std::vector<std::vector<RowRange>> team_rows;  ///< [ranks / ulysses] rows that each team's attention answers for
  std::vector<std::vector<CpRound>> round;       ///< [ranks / ulysses][rounds], the same number for every team
  int teams() const { return ranks / ulysses; }
};

/// Plans one whole pack. `node` as in TreeLayout (DFS pre-order). Works for any number of rows, 0 included, and any
/// number of ranks; a rank may own nothing. Not collective. Throws ConfigError when options.ulysses does not divide cp
/// or costs.max_ulysses.
CpPlan plan_context(std::span<const prefix::Node> node, const ParallelOptions& options, const CpCosts& costs);

/// Plans a pack that travels the pipeline in slices: slice s is the rows [slice_end[s - 1], slice_end[s]). One plan a
/// slice, whose rank_rows and team_rows are rows of that slice, balanced among themselves; its rounds bring every key
/// of slices up to and including its own that a query of the slice sees and another team owns, straight from the owner
/// (keys of earlier slices stay with their owners). One slice: plan_context. Same errors.
std::vector<CpPlan> plan_context_slices(std::span<const prefix::Node> node, std::span<const int32_t> slice_end,
                                        const ParallelOptions& options, const CpCosts& costs);

/// Load and traffic of every team of a plan, for tests, benches and the planner.
struct CpLoad {
  std::vector<int64_t> rows, pairs;     ///< [teams]
  std::vector<int64_t> received, sent;  ///< [teams] key rows, relays included
  int64_t total_pairs = 0, total_rows = 0;
};
CpLoad load_of(const CpPlan& plan, std::span<const prefix::Node> node);

/// Lower bound on the key rows that the worst of `teams` teams receives, at imbalance `cap_percent` (102 = 1.02):
/// the larger of the two bounds of the tree mask (deepest path; ranks below each node).
int64_t received_bound(std::span<const prefix::Node> node, int teams, int cap_percent = 102);

/// Key rows that come to team `g` with round s, ascending (-1: its own rows, there before the first round). Over all
/// rounds every visible key of every owned query comes exactly once.
std::vector<RowRange> keys_of_round(const CpPlan& plan, int g, int s);

/// Heads of one rank of the tp axis; `key` counts K (and as many V) heads.
struct CpHeads {
  int64_t query = 1, key = 1, dim = 1;
};

/// Elements (not bytes) that one attention layer moves between ranks of the cp axis. [ranks] each. What a rank keeps
/// for itself counts nothing; nor do row counts or softmax statistics, which never travel.
///
/// A team's rank moves the rows of the team's messages for its own 1/U of the heads:
/// - `forward_keys_*`: K and V of every row of every round's messages, relays included:
///   rows * 2 * key / U * dim. The backward fetches the same rows in the same rounds once more.
/// - `gradients_*`: dK and dV of every row that the team received, needed or not, straight to the row's owner whoever
///   relayed it, in the round that brought the row: rows * 2 * key / U * dim.
/// The head exchange is inside a team; a member has own rows, the other members the rest of the team's rows. Going in
/// (Q, K, V, dO) it sends its own rows U - 1 times and receives the rest once, coming back (O, dQ, dK, dV) the reverse:
/// - `forward_heads_*`: Q, K, V in, (query + 2 key) / U * dim a row; O back, query / U * dim.
/// - `backward_heads_*`: dO in, query / U * dim; dQ, dK, dV back, (query + 2 key) / U * dim. Q, K, V, O and the
///   log-sum-exp stay where the attention ran, on all rows of the team, and delta is computed there.
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

/// Elements that every rank of a plan moves, from the plan alone. Throws ConfigError when the plan's head split does
/// not divide both head counts.
CpTraffic predict_traffic(const CpPlan& plan, const CpHeads& heads);

}  // namespace fpdist::plan
