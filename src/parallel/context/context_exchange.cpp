// Index tensors of one pack's exchange, from the plan: which places of which buffer go where, in which round.

#include "src/parallel/context/context_exchange.hpp"

#include <algorithm>
#include <numeric>
#include <unordered_map>

#include "fpdist/core/error.hpp"
#include "src/core/index.hpp"
#include "src/parallel/to_tensor.hpp"

namespace fpdist::parallel {
namespace {

using Rows = std::vector<int32_t>;

Rows rows_of(const std::vector<plan::RowRange>& ranges) {
  Rows rows;
  for (const plan::RowRange& range : ranges)
    for (int32_t row = range.begin; row < range.end; ++row) rows.push_back(row);
  return rows;
}

/// Row number -> place in an ascending list, or -1.
int64_t place_of(const Rows& rows, int32_t row) {
  const auto at = std::lower_bound(rows.begin(), rows.end(), row);
  return at != rows.end() && *at == row ? at - rows.begin() : -1;
}

Rows ends_of(const Rows& rows, const std::vector<int32_t>& subtree_end) {
  Rows ends;
  for (const int32_t row : rows) ends.push_back(subtree_end[index(row)]);
  return ends;
}

RowMessage message(int peer, const std::vector<int64_t>& places) {
  return {.peer = peer, .rows = int64s(places), .count = static_cast<int64_t>(places.size())};
}

/// All rows that team `g` receives in round `s`, ascending.
Rows received_rows(const plan::CpPlan& plan, int g, size_t s) {
  Rows rows;
  for (const plan::KeyMessage& part : plan.round[index(g)][s].receive) {
    const Rows more = rows_of(part.rows);
    rows.insert(rows.end(), more.begin(), more.end());
  }
  std::sort(rows.begin(), rows.end());
  return rows;
}

/// Sends of round s: own rows stand first in the source, then the rows received one round before.
void fill_sends(ExchangeRound& round, const plan::CpRound& planned, const ContextExchange::Impl& exchange,
                const Rows& own, const Rows& before) {
  for (const plan::KeyMessage& part : planned.send) {
    std::vector<int64_t> places;
    for (const int32_t row : rows_of(part.rows)) {
      int64_t place = place_of(own, row);
      if (place < 0) {
        place = place_of(before, row);
        check(place >= 0, "the context plan sends row ", row, " from a rank that does not hold it");
        place += static_cast<int64_t>(own.size());
        round.relays = true;
      }
      places.push_back(place);
    }
    if (!places.empty()) round.send.push_back(message(exchange.rank_in(part.peer), places));
  }
}

void fill_receives(ExchangeRound& round, const plan::CpRound& planned, const ContextExchange::Impl& exchange,
                   const Rows& received, const std::vector<int32_t>& subtree_end) {
  round.mask = {exchange.mask.q_row, int32s(received), int32s(ends_of(received, subtree_end))};
  round.received = static_cast<int64_t>(received.size());
  for (const plan::KeyMessage& part : planned.receive) {
    std::vector<int64_t> places;
    for (const int32_t row : rows_of(part.rows)) places.push_back(place_of(received, row));
    if (!places.empty()) round.receive.push_back(message(exchange.rank_in(part.peer), places));
  }
}

/// Gradients go from every consumer to the owner, in the round of their rows.
void fill_gradients(ExchangeRound& round, const plan::CpPlan& plan, size_t s, const ContextExchange::Impl& exchange,
                    const std::vector<Rows>& owned, const Rows& received) {
  for (int g = 0; g < plan.teams(); ++g) {
    if (g == exchange.team) continue;
    std::vector<int64_t> give, take;
    for (size_t i = 0; i < received.size(); ++i)
      if (place_of(owned[index(g)], received[i]) >= 0) give.push_back(static_cast<int64_t>(i));
    for (const int32_t row : received_rows(plan, g, s))
      if (const int64_t place = place_of(owned[index(exchange.team)], row); place >= 0) take.push_back(place);
    if (!give.empty()) round.give.push_back(message(exchange.rank_in(g), give));
    if (!take.empty()) round.take.push_back(message(exchange.rank_in(g), take));
  }
}

}  // namespace

ContextExchange::ContextExchange(std::span<const plan::CpPlan> plans, const std::vector<int32_t>& subtree_end,
                                 comm::Communicator& keys, comm::Communicator& gradients, comm::Device* device)
    : impl_(std::make_unique<Impl>(
          Impl{.keys = keys, .gradients = gradients, .member_rows = {}, .mask = {}, .calls = {}, .round = {}})) {
  check(!plans.empty(), "an exchange needs a context plan");
  const plan::CpPlan& plan = plans.back();
  check(plan.ranks == keys.size() && keys.size() == gradients.size(), "a context plan for ", plan.ranks,
        " ranks on a cp axis of ", keys.size());
  impl_->ulysses = plan.ulysses;
  impl_->team = keys.rank() / plan.ulysses, impl_->member = keys.rank() % plan.ulysses;
  for (int m = 0; m < plan.ulysses; ++m) {
    int64_t rows = 0;
    for (const plan::RowRange& range : plan.rank_rows[index(impl_->team * plan.ulysses + m)]) rows += range.size();
    impl_->member_rows.push_back(rows);
  }
  std::vector<Rows> owned(plan.team_rows.size());
  for (const plan::CpPlan& earlier : plans)
    for (size_t g = 0; g < owned.size(); ++g) {
      const Rows more = rows_of(earlier.team_rows[g]);
      owned[g].insert(owned[g].end(), more.begin(), more.end());
    }
  const Rows& own = owned[index(impl_->team)];
  impl_->mask = {int32s(rows_of(plan.team_rows[index(impl_->team)])), int32s(own), int32s(ends_of(own, subtree_end))};
  impl_->sliced = plans.size() > 1;
  if (device != nullptr) impl_->calls = ops::prepare_attention(impl_->mask, device->where());
  Rows before;
  for (size_t s = 0; s < plan.round[index(impl_->team)].size(); ++s) {
    const plan::CpRound& planned = plan.round[index(impl_->team)][s];
    const Rows received = received_rows(plan, impl_->team, s);
    ExchangeRound& round = impl_->round.emplace_back();
    fill_sends(round, planned, *impl_, own, before);
    fill_receives(round, planned, *impl_, received, subtree_end);
    fill_gradients(round, plan, s, *impl_, owned, received);
    before = received;
    if (device != nullptr) round.calls = ops::prepare_attention(round.mask, device->where());
  }
  if (device == nullptr) return;
  std::vector<at::Tensor*> places;
  for (ExchangeRound& round : impl_->round)
    for (auto* messages : {&round.send, &round.receive, &round.give, &round.take})
      for (RowMessage& part : *messages) places.push_back(&part.rows);
  if (!places.empty()) device->upload_all(places);
}

ContextExchange::~ContextExchange() = default;

int64_t ContextExchange::queries() const { return impl_->rows(); }

}  // namespace fpdist::parallel
