#include "src/plan/context/rounds.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "src/core/index.hpp"

namespace fpdist::plan {
namespace {

class Lowering {
 public:
  Lowering(const ChunkTree& tree, std::span<const int32_t> owner, int teams, CpMethod method);
  std::vector<std::vector<CpRound>> take();

 private:
  int64_t left_of(int64_t team, int64_t steps) const { return (team - steps % teams_ + teams_) % teams_; }
  void split_ring_and_direct(CpMethod method);
  void choose_rounds();
  std::vector<int64_t> room_in_rounds(int64_t team) const;
  void receive_ring(int64_t team);
  void receive_direct(int64_t team);
  void mirror_sends();

  const ChunkTree& tree_;
  std::span<const int32_t> owner_;
  int64_t teams_;
  int64_t rounds_ = 0;
  ConsumerSets consumers_;
  std::vector<std::vector<RowRange>> ring_;  ///< [teams] rows of each team that go round
  std::vector<int64_t> ring_rows_;           ///< [teams] and how many
  /// Chunks that go straight, by (receiver, steps to the left): those of pair p are [direct_begin_[p],
  /// direct_begin_[p+1])
  std::vector<int32_t> direct_, direct_begin_;
  std::vector<int64_t> direct_rows_;  ///< [receiver]
  std::vector<std::vector<CpRound>> round_;
};

Lowering::Lowering(const ChunkTree& tree, std::span<const int32_t> owner, int teams, CpMethod method)
    : tree_(tree),
      owner_(owner),
      teams_(teams),
      consumers_(tree, owner, teams),
      ring_(index(teams)),
      ring_rows_(index(teams)),
      direct_begin_(index(teams) * index(teams) + 1),
      direct_rows_(index(teams)),
      round_(index(teams)) {
  split_ring_and_direct(method);
  choose_rounds();
}

void Lowering::split_ring_and_direct(CpMethod method) {
  const auto pair_of = [&](int64_t receiver, int64_t owner) {
    return index(receiver * teams_ + receiver - owner + (receiver < owner ? teams_ : 0));
  };
  std::vector<int32_t> straight;
  for (size_t c = 0; c < tree_.chunk.size(); ++c) {
    const Chunk& chunk = tree_.chunk[c];
    const auto id = static_cast<int64_t>(c);
    const int64_t owner = owner_[c];
    // What every team needs costs the same rows either way; round the ring no rank sends a row twice. Between two
    // teams a ring is one message straight across, which rounds only spread.
    const bool may_circle = teams_ > 2 && tree_.parent[index(chunk.node)] < 0;
    if (method == CpMethod::kRing || (method != CpMethod::kGroupCast && may_circle && consumers_.everyone(id, owner))) {
      append(ring_[index(owner)], {chunk.begin, chunk.end});
      ring_rows_[index(owner)] += chunk.rows();
      continue;
    }
    straight.push_back(static_cast<int32_t>(c));
    consumers_.for_each(id, owner, [&](int64_t receiver) {
      ++direct_begin_[pair_of(receiver, owner) + 1];
      direct_rows_[index(receiver)] += chunk.rows();
    });
  }
  std::partial_sum(direct_begin_.begin(), direct_begin_.end(), direct_begin_.begin());
  direct_.resize(index(direct_begin_.back()));
  std::vector<int32_t> next = direct_begin_;
  for (const int32_t c : straight)
    consumers_.for_each(c, owner_[index(c)],
                        [&](int64_t receiver) { direct_[index(next[pair_of(receiver, owner_[index(c)])]++)] = c; });
}

void Lowering::choose_rounds() {
  if (teams_ == 1) return;
  const auto any = [](int64_t rows) { return rows > 0; };
  if (std::any_of(ring_rows_.begin(), ring_rows_.end(), any)) {
    rounds_ = teams_ - 1;
  } else if (const int64_t worst = *std::max_element(direct_rows_.begin(), direct_rows_.end()); worst > 0) {
    rounds_ = rounds_for(worst);
  }
}

/// How many straight rows each round takes so that all rounds of the team, ring included, bring nearly equal rows.
std::vector<int64_t> Lowering::room_in_rounds(int64_t team) const {
  std::vector<int64_t> ring(index(rounds_));
  for (int64_t s = 0; s < rounds_; ++s) ring[index(s)] = ring_rows_[index(left_of(team, s + 1))];
  std::vector<int64_t> order = ring;
  std::sort(order.begin(), order.end());
  // The lowest level up to which the rounds hold all straight rows.
  int64_t below = 0, level = 0;
  for (int64_t used = 1; used <= rounds_; ++used) {
    below += order[index(used - 1)];
    level = (direct_rows_[index(team)] + below + used - 1) / used;
    if (used == rounds_ || level <= order[index(used)]) break;
  }
  for (int64_t& rows : ring) rows = std::max<int64_t>(0, level - rows);
  return ring;
}

/// Round s brings what the left neighbour got in round s - 1.
void Lowering::receive_ring(int64_t team) {
  const size_t straight = direct_rows_[index(team)] > 0 ? index(teams_ / rounds_ + 1) : 0;
  for (int64_t s = 0; s < rounds_; ++s) {
    round_[index(team)][index(s)].receive.reserve(1 + straight);
    const std::vector<RowRange>& rows = ring_[index(left_of(team, s + 1))];
    if (!rows.empty()) round_[index(team)][index(s)].receive.push_back({static_cast<int32_t>(left_of(team, 1)), rows});
  }
}

/// Nearest left neighbours first: in each round the teams then ask different senders.
void Lowering::receive_direct(int64_t team) {
  if (direct_rows_[index(team)] == 0) return;
  std::vector<int64_t> room = room_in_rounds(team);
  size_t s = 0;
  for (int64_t steps = 1; steps < teams_; ++steps) {
    const auto peer = static_cast<int32_t>(left_of(team, steps));
    const int32_t* const begin = direct_begin_.data() + team * teams_ + steps;
    for (int32_t i = begin[0]; i < begin[1]; ++i) {
      RowRange left{tree_.chunk[index(direct_[index(i)])].begin, tree_.chunk[index(direct_[index(i)])].end};
      while (left.size() > 0) {
        while (room[s] == 0) ++s;
        const auto taken = static_cast<int32_t>(std::min<int64_t>(room[s], left.size()));
        std::vector<KeyMessage>& receive = round_[index(team)][s].receive;
        if (receive.empty() || receive.back().peer != peer) {
          receive.push_back({peer, {}});
          receive.back().rows.reserve(index(begin[1] - i));
        }
        append(receive.back().rows, {left.begin, left.begin + taken});
        left.begin += taken;
        room[s] -= taken;
      }
    }
  }
  for (CpRound& round : round_[index(team)]) {
    for (KeyMessage& message : round.receive)
      if (message.peer == left_of(team, 1)) normalise(message.rows);  // ring and straight rows
    std::sort(round.receive.begin(), round.receive.end(),
              [](const KeyMessage& a, const KeyMessage& b) { return a.peer < b.peer; });
  }
}

void Lowering::mirror_sends() {
  std::vector<size_t> sends(index(teams_));
  for (size_t s = 0; s < index(rounds_); ++s) {
    std::fill(sends.begin(), sends.end(), 0);
    for (const auto& team : round_)
      for (const KeyMessage& message : team[s].receive) ++sends[index(message.peer)];
    for (size_t g = 0; g < index(teams_); ++g) round_[g][s].send.reserve(sends[g]);
    for (size_t receiver = 0; receiver < index(teams_); ++receiver)
      for (const KeyMessage& message : round_[receiver][s].receive)
        round_[index(message.peer)][s].send.push_back({static_cast<int32_t>(receiver), message.rows});
  }
}

std::vector<std::vector<CpRound>> Lowering::take() {
  for (int64_t team = 0; team < teams_; ++team) {
    round_[index(team)].resize(index(rounds_));
    receive_ring(team);
    receive_direct(team);
  }
  mirror_sends();
  return std::move(round_);
}

}  // namespace

int64_t rounds_for(int64_t rows) {
  // From systems that were measured on GPUs, not from here: 4096 rows of keys (8 heads x 128, bf16) are 16 MB, ten
  // times what starting a message costs on a 400 Gb/s link; each round costs a launch and a merge, and one to four are
  // used.
  constexpr int64_t kRowsPerRound = 4096, kMostRounds = 4;
  return std::clamp<int64_t>(rows / kRowsPerRound, 1, kMostRounds);
}

void normalise(std::vector<RowRange>& rows) {
  std::sort(rows.begin(), rows.end(), [](const RowRange& a, const RowRange& b) { return a.begin < b.begin; });
  size_t kept = 0;
  for (size_t i = 1; i < rows.size(); ++i) {
    if (rows[kept].end == rows[i].begin)
      rows[kept].end = rows[i].end;
    else
      rows[++kept] = rows[i];
  }
  if (!rows.empty()) rows.resize(kept + 1);
}

int64_t count_rows(std::span<const RowRange> rows) {
  int64_t count = 0;
  for (const RowRange& range : rows) count += range.size();
  return count;
}

std::vector<std::vector<RowRange>> rows_of_owners(const ChunkTree& tree, std::span<const int32_t> owner, int teams) {
  std::vector<std::vector<RowRange>> rows(index(teams));
  for (size_t c = 0; c < tree.chunk.size(); ++c)
    append(rows[index(owner[c])], {tree.chunk[c].begin, tree.chunk[c].end});
  return rows;
}

std::vector<std::vector<CpRound>> lower_to_rounds(const ChunkTree& tree, std::span<const int32_t> owner, int teams,
                                                  CpMethod method) {
  return Lowering(tree, owner, teams, method).take();
}

}  // namespace fpdist::plan
