// Index tensors of one pack's exchange, from the plan: which places of which buffer go where, in which stage.

#include "src/parallel/context/context_exchange.hpp"

#include <algorithm>
#include <numeric>
#include <unordered_map>

#include "fpdist/core/error.hpp"
#include "src/parallel/to_tensor.hpp"

namespace fpdist::parallel {
namespace {

using Rows = std::vector<int32_t>;

size_t index(int64_t i) { return static_cast<size_t>(i); }

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

/// All rows that group `g` receives in stage `s`, ascending.
Rows received_rows(const plan::CpPlan& plan, int g, size_t s) {
  Rows rows;
  for (const plan::KeyMessage& part : plan.round[index(g)][s].receive) {
    const Rows more = rows_of(part.rows);
    rows.insert(rows.end(), more.begin(), more.end());
  }
  std::sort(rows.begin(), rows.end());
  return rows;
}

/// Sends of stage s: own rows stand first in the source, then the rows received one stage before.
void fill_sends(ExchangeStage& stage, const plan::CpRound& planned, const ContextExchange::Impl& exchange,
                const Rows& own, const Rows& before) {
  for (const plan::KeyMessage& part : planned.send) {
    std::vector<int64_t> places;
    for (const int32_t row : rows_of(part.rows)) {
      int64_t place = place_of(own, row);
      if (place < 0) {
        place = place_of(before, row);
        check(place >= 0, "the context plan sends row ", row, " from a rank that does not hold it");
        place += static_cast<int64_t>(own.size());
        stage.relays = true;
      }
      places.push_back(place);
    }
    if (!places.empty()) stage.send.push_back(message(exchange.rank_in(part.peer), places));
  }
}

void fill_receives(ExchangeStage& stage, const plan::CpRound& planned, const ContextExchange::Impl& exchange,
                   const Rows& received, const std::vector<int32_t>& subtree_end) {
  stage.mask = {exchange.mask.q_row, int32s(received), int32s(ends_of(received, subtree_end))};
  stage.received = static_cast<int64_t>(received.size());
  for (const plan::KeyMessage& part : planned.receive) {
    std::vector<int64_t> places;
    for (const int32_t row : rows_of(part.rows)) places.push_back(place_of(received, row));
    if (!places.empty()) stage.receive.push_back(message(exchange.rank_in(part.peer), places));
  }
}

/// Gradients go from every consumer to the owner, in the stage of their rows.
void fill_gradients(ExchangeStage& stage, const plan::CpPlan& plan, size_t s, const ContextExchange::Impl& exchange,
                    const std::vector<Rows>& owned, const Rows& received) {
  for (int g = 0; g < plan.teams(); ++g) {
    if (g == exchange.group) continue;
    std::vector<int64_t> give, take;
    for (size_t i = 0; i < received.size(); ++i)
      if (place_of(owned[index(g)], received[i]) >= 0) give.push_back(static_cast<int64_t>(i));
    for (const int32_t row : received_rows(plan, g, s))
      if (const int64_t place = place_of(owned[index(exchange.group)], row); place >= 0) take.push_back(place);
    if (!give.empty()) stage.give.push_back(message(exchange.rank_in(g), give));
    if (!take.empty()) stage.take.push_back(message(exchange.rank_in(g), take));
  }
}

}  // namespace

ContextExchange::ContextExchange(std::span<const plan::CpPlan> plans, const std::vector<int32_t>& subtree_end,
                                 comm::Communicator& keys, comm::Communicator& gradients, comm::Device* device)
    : impl_(std::make_unique<Impl>(
          Impl{.keys = keys, .gradients = gradients, .member_rows = {}, .mask = {}, .calls = {}, .stage = {}})) {
  check(!plans.empty(), "an exchange needs a context plan");
  const plan::CpPlan& plan = plans.back();
  check(plan.ranks == keys.size() && keys.size() == gradients.size(), "a context plan for ", plan.ranks,
        " ranks on a cp axis of ", keys.size());
  impl_->ulysses = plan.ulysses;
  impl_->group = keys.rank() / plan.ulysses, impl_->member = keys.rank() % plan.ulysses;
  for (int m = 0; m < plan.ulysses; ++m) {
    int64_t rows = 0;
    for (const plan::RowRange& range : plan.rank_rows[index(impl_->group * plan.ulysses + m)]) rows += range.size();
    impl_->member_rows.push_back(rows);
  }
  std::vector<Rows> owned(plan.team_rows.size());
  for (const plan::CpPlan& earlier : plans)
    for (size_t g = 0; g < owned.size(); ++g) {
      const Rows more = rows_of(earlier.team_rows[g]);
      owned[g].insert(owned[g].end(), more.begin(), more.end());
    }
  const Rows& own = owned[index(impl_->group)];
  impl_->mask = {int32s(rows_of(plan.team_rows[index(impl_->group)])), int32s(own), int32s(ends_of(own, subtree_end))};
  impl_->sliced = plans.size() > 1;
  if (device != nullptr) impl_->calls = ops::prepare_attention(impl_->mask, device->where());
  Rows before;
  for (size_t s = 0; s < plan.round[index(impl_->group)].size(); ++s) {
    const plan::CpRound& planned = plan.round[index(impl_->group)][s];
    const Rows received = received_rows(plan, impl_->group, s);
    ExchangeStage& stage = impl_->stage.emplace_back();
    fill_sends(stage, planned, *impl_, own, before);
    fill_receives(stage, planned, *impl_, received, subtree_end);
    fill_gradients(stage, plan, s, *impl_, owned, received);
    before = received;
    if (device != nullptr) stage.calls = ops::prepare_attention(stage.mask, device->where());
  }
  if (device == nullptr) return;
  std::vector<at::Tensor*> places;
  for (ExchangeStage& stage : impl_->stage)
    for (auto* messages : {&stage.send, &stage.receive, &stage.give, &stage.take})
      for (RowMessage& part : *messages) places.push_back(&part.rows);
  if (!places.empty()) device->upload_all(places);
}

ContextExchange::~ContextExchange() = default;

}  // namespace fpdist::parallel
