#include "src/comm/host/host_communicator.hpp"

#include <ATen/ops/empty.h>
#include <c10/core/ScalarType.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/comm/host/host_call.hpp"
#include "src/comm/work.hpp"

namespace fpdist::comm {

HostCommunicator::HostCommunicator(std::shared_ptr<Transport> transport, std::string axis)
    : transport_(std::move(transport)),
      axis_(std::make_shared<const std::string>(std::move(axis))),
      rank_(transport_->rank()) {
  members_.resize(transport_->size());
  std::iota(members_.begin(), members_.end(), 0);
  sent_.resize(members_.size());
  received_.resize(members_.size());
}

HostCommunicator::HostCommunicator(std::shared_ptr<Transport> transport, std::string axis, std::vector<int> members,
                                   int tag)
    : transport_(std::move(transport)),
      axis_(std::make_shared<const std::string>(std::move(axis))),
      members_(std::move(members)),
      tag_(tag) {
  rank_ = static_cast<int>(std::find(members_.begin(), members_.end(), transport_->rank()) - members_.begin());
  sent_.resize(members_.size());
  received_.resize(members_.size());
}

Place HostCommunicator::place(Collective collective, int64_t sequence) const {
  return {.collective = collective,
          .sequence = sequence,
          .axis = axis_,
          .rank = rank_,
          .size = size(),
          .world_rank = transport_->rank(),
          .position = transport_->journal()->position(),
          .journal = transport_->journal().get()};
}

bool HostCommunicator::is_checked(int64_t sequence) const {
  const int every = transport_->options().check_every;
  return every > 0 && sequence % every == 0;
}

HostCommunicator::Call HostCommunicator::open(CallRecord record, MessageHeader header) {
  record.collective = header.collective;
  record.sequence = header.sequence;
  record.axis = axis_;
  const Place here = place(header.collective, header.sequence);
  return {*transport_,
          members_,
          header,
          is_checked(header.sequence),
          traffic_,
          Exchange{.tag = tag_, .sends = {}, .receives = {}, .place = here},
          OpenCall(*transport_->journal(), std::move(record))};
}

HostCommunicator::Call HostCommunicator::begin(Collective collective, const at::Tensor& tensor, int64_t detail) {
  check<CommError>(!builder_.is_open(), place(collective, sequence_), ": called between group_begin and group_end");
  CallRecord record;
  MessageHeader header{.collective = collective, .sequence = ++sequence_, .detail = detail};
  if (tensor.defined()) {
    header.dtype = static_cast<int32_t>(tensor.scalar_type());
    record.dtype = c10::toString(tensor.scalar_type());
    record.bytes = static_cast<int64_t>(tensor.nbytes());
  }
  for (const int member : members_) {
    if (member != transport_->rank()) record.peers.push_back(member);
  }
  return open(std::move(record), header);
}

/// Groups are between pairs: ranks may take part in different numbers of them, so they have a count of their own.
HostCommunicator::Call HostCommunicator::begin_group(const std::vector<GroupMessage>& sends,
                                                     const std::vector<GroupMessage>& receives) {
  CallRecord record;
  for (const std::vector<GroupMessage>* side : {&sends, &receives}) {
    for (const GroupMessage& pending : *side) {
      const int peer = members_[pending.peer];
      record.dtype = c10::toString(pending.tensor.scalar_type());
      record.bytes += static_cast<int64_t>(pending.tensor.nbytes());
      if (std::find(record.peers.begin(), record.peers.end(), peer) == record.peers.end()) record.peers.push_back(peer);
    }
  }
  return open(std::move(record), {.collective = Collective::kGroup, .sequence = ++groups_});
}

void HostCommunicator::group_begin() { builder_.begin(here()); }

void HostCommunicator::send(const at::Tensor& tensor, int peer) {
  builder_.send(here(), tensor, peer, size(), check_host_tensor);
}

void HostCommunicator::receive(at::Tensor& tensor, int peer) {
  builder_.receive(here(), tensor, peer, size(), check_host_tensor);
}

void HostCommunicator::group_end() { group_start()->wait(); }

std::unique_ptr<Work> HostCommunicator::group_start() {
  const auto [sends, receives] = builder_.take(here());
  const auto to_self = [&](const GroupMessage& message) { return message.peer == rank_; };
  const auto from = std::find_if(sends.begin(), sends.end(), to_self);
  if (from != sends.end() && from->tensor.numel() > 0) {
    const auto into = std::find_if(receives.begin(), receives.end(), to_self);
    std::memmove(data_of(into->tensor), data_of(from->tensor), from->tensor.nbytes());
  }
  Call call = begin_group(sends, receives);
  const auto add = [&](const GroupMessage& pending, std::vector<int64_t>& number, std::vector<Message>& messages) {
    if (to_self(pending)) return;
    call.header.dtype = static_cast<int32_t>(pending.tensor.scalar_type());
    call.header.sequence = ++number[pending.peer];
    call.checked = is_checked(call.header.sequence);
    messages.push_back(call.message(pending.peer, data_of(pending.tensor),
                                    static_cast<int64_t>(pending.tensor.nbytes()), pending.tensor));
  };
  for (const GroupMessage& pending : sends) {
    add(pending, sent_, call.exchange.sends);
    const auto bytes = to_self(pending) ? 0 : static_cast<int64_t>(pending.tensor.nbytes());
    traffic_.bytes += bytes, traffic_.messages += bytes > 0;
  }
  for (const GroupMessage& pending : receives) add(pending, received_, call.exchange.receives);
  auto work = transport_->start(std::move(call.exchange));
  return std::make_unique<RecordedWork>(transport_->journal(), call.record.release(), std::move(work), transport_);
}

std::unique_ptr<Communicator> HostCommunicator::split(const std::string& axis, int color, int key) {
  at::Tensor wishes = at::empty({size(), 3}, at::kLong);  // [rank]: color, key, first free tag
  int64_t* wish = wishes.data_ptr<int64_t>();
  wish[rank_ * 3] = color;
  wish[rank_ * 3 + 1] = key;
  wish[rank_ * 3 + 2] = transport_->next_tag();
  const std::vector<int64_t> counts(size(), 3), name(axis.begin(), axis.end());
  Call call = begin(Collective::kSplit, wishes, signature(name));
  gather_slots(call, data_of(wishes) + rank_ * 3 * sizeof(int64_t), wishes.view({-1}), counts);
  int64_t tag = 0;
  std::vector<std::pair<int64_t, int>> order;  // key, rank here
  for (int r = 0; r < size(); ++r) {
    tag = std::max(tag, wish[r * 3 + 2]);  // free on every rank; the new communicators are disjoint and may share it
    if (wish[r * 3] == color) order.emplace_back(wish[r * 3 + 1], r);
  }
  transport_->set_next_tag(static_cast<int>(tag) + 1);
  std::sort(order.begin(), order.end());
  std::vector<int> members;
  for (const auto& [unused, rank] : order) members.push_back(members_[rank]);
  return std::make_unique<HostCommunicator>(transport_, axis, std::move(members), static_cast<int>(tag));
}

void HostCommunicator::abort(const std::string& reason) noexcept { transport_->abort(reason); }

}  // namespace fpdist::comm
