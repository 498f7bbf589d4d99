#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/core/index.hpp"
#include "src/plan/context/chunks.hpp"
#include "src/plan/context/context_plan.hpp"
#include "src/plan/context/rounds.hpp"

namespace fpdist::plan {
namespace {

/// Rows that the teams' messages carry; [teams] each.
struct TeamRows {
  std::vector<int64_t> sent, received;  ///< key rows
  std::vector<int64_t> returned;        ///< rows of this team whose gradients come back, once a consumer
};

TeamRows rows_of_messages(const CpPlan& plan) {
  const size_t teams = plan.team_rows.size();
  TeamRows result{std::vector<int64_t>(teams), std::vector<int64_t>(teams), std::vector<int64_t>(teams)};
  int32_t rows = 0;
  for (const std::vector<RowRange>& own : plan.team_rows)
    if (!own.empty()) rows = std::max(rows, own.back().end);
  std::vector<size_t> owner(index(rows));
  for (size_t g = 0; g < teams; ++g)
    for (const RowRange& range : plan.team_rows[g])
      std::fill(owner.begin() + range.begin, owner.begin() + range.end, g);
  for (size_t g = 0; g < teams; ++g) {
    for (const CpRound& round : plan.round[g]) {
      for (const KeyMessage& message : round.send) result.sent[g] += count_rows(message.rows);
      for (const KeyMessage& message : round.receive) {
        result.received[g] += count_rows(message.rows);
        for (const RowRange& range : message.rows)
          for (int32_t row = range.begin; row < range.end; ++row) ++result.returned[owner[index(row)]];
      }
    }
  }
  return result;
}

}  // namespace

CpTraffic predict_traffic(const CpPlan& plan, const CpHeads& heads) {
  const int64_t members = plan.ulysses;
  check<ConfigError>(heads.query % members == 0 && heads.key % members == 0, "the plan splits heads over ", members,
                     " ranks, which does not divide ", heads.query, " query heads and ", heads.key,
                     " key-value heads; set parallel.ulysses to a common divisor");
  const TeamRows rows = rows_of_messages(plan);
  const int64_t query = heads.query / members * heads.dim, key = heads.key / members * heads.dim;
  CpTraffic traffic;
  for (size_t rank = 0; rank < plan.rank_rows.size(); ++rank) {
    const size_t team = rank / index(members);
    traffic.forward_keys_sent.push_back(rows.sent[team] * 2 * key);
    traffic.forward_keys_received.push_back(rows.received[team] * 2 * key);
    traffic.gradients_sent.push_back(rows.received[team] * 2 * key);
    traffic.gradients_received.push_back(rows.returned[team] * 2 * key);
    // Its own rows once to each other member; the other members' rows once each.
    const int64_t own = count_rows(plan.rank_rows[rank]);
    const int64_t out = own * (members - 1), in = count_rows(plan.team_rows[team]) - own;
    traffic.forward_heads_sent.push_back(out * (query + 2 * key) + in * query);
    traffic.forward_heads_received.push_back(in * (query + 2 * key) + out * query);
    traffic.backward_heads_sent.push_back(out * query + in * (query + 2 * key));
    traffic.backward_heads_received.push_back(in * query + out * (query + 2 * key));
  }
  return traffic;
}

}  // namespace fpdist::plan
