#include "host_communicator.hpp"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

#include "fpdist/core/error.hpp"
#include "reduce.hpp"

namespace fpdist::comm {
namespace {

/// Below this a sum is made by everyone from everything: one round of messages instead of two.
constexpr int64_t kWholeBytes = 64 << 10;

char* bytes_of(const at::Tensor& tensor) { return static_cast<char*>(tensor.data_ptr()); }

int64_t signature(std::span<const int64_t> values) {  // FNV-1a
  uint64_t hash = 1469598103934665603u;
  for (const int64_t value : values) hash = (hash ^ static_cast<uint64_t>(value)) * 1099511628211u;
  return static_cast<int64_t>(hash >> 1);
}

std::vector<int64_t> offsets_of(std::span<const int64_t> counts) {
  std::vector<int64_t> offset(counts.size() + 1, 0);
  std::partial_sum(counts.begin(), counts.end(), offset.begin() + 1);
  return offset;
}

}  // namespace

struct HostCommunicator::Call {
  Transport& transport;
  const std::vector<int>& members;
  Header header;
  bool checked;
  Traffic& traffic;
  Exchange exchange;

  Message message(int rank, char* data, int64_t bytes, const at::Tensor& owner) const {
    Message message{.peer = members[rank], .data = data, .header = header, .checked = checked, .owner = owner};
    message.header.bytes = bytes;
    return message;
  }
  void send(int rank, const char* data, int64_t bytes, const at::Tensor& owner) {
    exchange.sends.push_back(message(rank, const_cast<char*>(data), bytes, owner));
    traffic.bytes += bytes, traffic.messages += bytes > 0;
  }
  void receive(int rank, char* data, int64_t bytes, const at::Tensor& owner) {
    exchange.receives.push_back(message(rank, data, bytes, owner));
  }
  /// Moves what was added; the first round of a call carries the headers.
  void run() {
    Exchange next{.tag = exchange.tag, .sends = {}, .receives = {}, .place = exchange.place};
    std::swap(next, exchange);
    transport.start(std::move(next))->wait();
    checked = false;
  }
};

HostCommunicator::HostCommunicator(std::shared_ptr<Transport> transport, std::string axis)
    : transport_(std::move(transport)), axis_(std::move(axis)), rank_(transport_->rank()) {
  members_.resize(transport_->size());
  std::iota(members_.begin(), members_.end(), 0);
  sent_.resize(members_.size());
  received_.resize(members_.size());
}

HostCommunicator::HostCommunicator(std::shared_ptr<Transport> transport, std::string axis, std::vector<int> members,
                                   int tag)
    : transport_(std::move(transport)), axis_(std::move(axis)), members_(std::move(members)), tag_(tag) {
  rank_ = static_cast<int>(std::find(members_.begin(), members_.end(), transport_->rank()) - members_.begin());
  sent_.resize(members_.size());
  received_.resize(members_.size());
}

std::string HostCommunicator::place(Collective collective, int64_t sequence) const {
  return text(name_of(collective), ", call ", sequence, ", on axis ", axis_, ", rank ", rank_, " of ", size(),
              " (world rank ", transport_->rank(), ")");
}

bool HostCommunicator::is_checked(int64_t sequence) const {
  const int every = transport_->options().check_every;
  return every > 0 && sequence % every == 0;
}

HostCommunicator::Call HostCommunicator::begin(Collective collective, const at::Tensor& tensor, int64_t detail) {
  check<CommError>(!in_group_, place(collective, sequence_), ": called between group_begin and group_end");
  // Groups are between pairs: ranks may take part in different numbers of them, so they have a count of their own.
  const int64_t sequence = collective == Collective::kGroup ? ++groups_ : ++sequence_;
  Header header{.collective = collective, .sequence = sequence, .detail = detail};
  if (tensor.defined()) header.dtype = static_cast<int32_t>(tensor.scalar_type());
  return {*transport_, members_,
          header,      is_checked(sequence),
          traffic_,    Exchange{.tag = tag_, .sends = {}, .receives = {}, .place = place(collective, sequence)}};
}

void HostCommunicator::check_tensor(const at::Tensor& tensor, const char* what) const {
  check(tensor.defined(), "axis ", axis_, ": ", what, " is undefined");
  check(tensor.device().is_cpu(), "axis ", axis_, ": ", what, " is not on the CPU");
  check(tensor.is_contiguous(), "axis ", axis_, ": ", what, " is not contiguous; call contiguous() first");
  switch (tensor.scalar_type()) {
    case at::kFloat:
    case at::kDouble:
    case at::kBFloat16:
    case at::kInt:
    case at::kLong:
    case at::kByte:
      return;
    default:
      throw ShapeError(text("axis ", axis_, ": ", what, " is ", c10::toString(tensor.scalar_type()),
                            "; ranks exchange float32, float64, bfloat16, int32, int64 and uint8"));
  }
}

void HostCommunicator::check_counts(std::span<const int64_t> counts, const at::Tensor& whole, const char* what) const {
  check(static_cast<int>(counts.size()) == size(), "axis ", axis_, ": ", counts.size(), " counts for ", what, " on ",
        size(), " ranks");
  int64_t sum = 0;
  for (const int64_t count : counts) {
    check(count >= 0, "axis ", axis_, ": a count of ", what, " is ", count);
    sum += count;
  }
  check(sum == whole.numel(), "axis ", axis_, ": the counts of ", what, " add up to ", sum, ", the tensor has ",
        whole.numel(), " elements");
}

void HostCommunicator::group_begin() {
  check<CommError>(!in_group_, place(Collective::kGroup, groups_), ": group_begin inside a group");
  in_group_ = true;
}

void HostCommunicator::add_pending(std::vector<Pending>& pending, const at::Tensor& tensor, int peer,
                                   const char* what) {
  try {
    check<CommError>(in_group_, "axis ", axis_, ", rank ", rank_, ": ", what, " outside group_begin and group_end");
    check_tensor(tensor, what);
    check(peer >= 0 && peer < size(), "axis ", axis_, ": ", what, " names rank ", peer, " of ", size());
    for (const Pending& other : pending) {
      check<CommError>(other.peer != peer, "axis ", axis_, ", rank ", rank_, ": a second ", what, " with rank ", peer,
                       " in one group; put it into a group of its own");
    }
  } catch (...) {  // the group is given up: nothing has moved yet
    in_group_ = false;
    sends_.clear();
    receives_.clear();
    throw;
  }
  pending.push_back({tensor, peer});
}

void HostCommunicator::send(const at::Tensor& tensor, int peer) { add_pending(sends_, tensor, peer, "send"); }

void HostCommunicator::receive(at::Tensor& tensor, int peer) { add_pending(receives_, tensor, peer, "receive"); }

void HostCommunicator::group_end() { group_start()->wait(); }

std::unique_ptr<Work> HostCommunicator::group_start() {
  check<CommError>(in_group_, "axis ", axis_, ", rank ", rank_, ": group_end without group_begin");
  in_group_ = false;
  const std::vector<Pending> sends = std::exchange(sends_, {}), receives = std::exchange(receives_, {});
  const auto to_self = [&](const Pending& pending) { return pending.peer == rank_; };
  const auto from = std::find_if(sends.begin(), sends.end(), to_self);
  const auto into = std::find_if(receives.begin(), receives.end(), to_self);
  check<CommError>((from == sends.end()) == (into == receives.end()), "axis ", axis_, ", rank ", rank_,
                   ": a message to oneself needs both its send and its receive in the group");
  if (from != sends.end()) {
    check<CommError>(from->tensor.nbytes() == into->tensor.nbytes(), "axis ", axis_, ", rank ", rank_,
                     ": a message to oneself is sent with ", from->tensor.nbytes(), " bytes and received with ",
                     into->tensor.nbytes());
    if (from->tensor.numel() > 0) std::memmove(bytes_of(into->tensor), bytes_of(from->tensor), from->tensor.nbytes());
  }
  Call call = begin(Collective::kGroup, {}, 0);
  const auto add = [&](const Pending& pending, std::vector<int64_t>& number, std::vector<Message>& messages) {
    if (to_self(pending)) return;
    call.header.dtype = static_cast<int32_t>(pending.tensor.scalar_type());
    call.header.sequence = ++number[pending.peer];
    call.checked = is_checked(call.header.sequence);
    messages.push_back(call.message(pending.peer, bytes_of(pending.tensor),
                                    static_cast<int64_t>(pending.tensor.nbytes()), pending.tensor));
  };
  for (const Pending& pending : sends) {
    add(pending, sent_, call.exchange.sends);
    const auto bytes = to_self(pending) ? 0 : static_cast<int64_t>(pending.tensor.nbytes());
    traffic_.bytes += bytes, traffic_.messages += bytes > 0;
  }
  for (const Pending& pending : receives) add(pending, received_, call.exchange.receives);
  return transport_->start(std::move(call.exchange));
}

void HostCommunicator::gather_slots(Call& call, const char* mine, const at::Tensor& out,
                                    std::span<const int64_t> counts) {
  const int64_t item = out.element_size();
  const std::vector<int64_t> offset = offsets_of(counts);
  char* slots = bytes_of(out);
  if (counts[rank_] > 0) std::memmove(slots + offset[rank_] * item, mine, counts[rank_] * item);
  const char* own = slots + offset[rank_] * item;
  for (int step = 1; step < size(); ++step) {  // rank r starts with r + 1: no receiver is everyone's first
    const int to = (rank_ + step) % size(), from = (rank_ - step + size()) % size();
    call.send(to, own, counts[rank_] * item, out);
    call.receive(from, slots + offset[from] * item, counts[from] * item, out);
  }
  call.run();
}

void HostCommunicator::reduce_slots(Call& call, const at::Tensor& in, const at::Tensor& mine,
                                    std::span<const int64_t> counts, ReduceOp op) {
  const int64_t item = in.element_size();
  const std::vector<int64_t> offset = offsets_of(counts);
  const int64_t longest = *std::max_element(counts.begin(), counts.end());
  const int64_t wanted = transport_->options().scratch_bytes / (item * std::max(1, size() - 1));
  const int64_t per_round = std::max<int64_t>(1, std::min(longest, wanted));
  const at::Tensor scratch = at::empty({(size() - 1) * std::min(per_round, counts[rank_]) * item}, at::kByte);
  std::vector<const char*> parts(size());
  for (int64_t start = 0; start == 0 || start < longest; start += per_round) {
    const auto part = [&](int rank) { return std::clamp<int64_t>(counts[rank] - start, 0, per_round); };
    const auto slot = [&](int rank) { return bytes_of(in) + (offset[rank] + start) * item; };
    char* next = bytes_of(scratch);
    for (int step = 1; step < size(); ++step) {
      const int to = (rank_ + step) % size(), from = (rank_ - step + size()) % size();
      if (part(to) > 0) {
        call.send(to, slot(to), part(to) * item, in);
      } else {
        call.send(to, nullptr, 0, in);
      }
      call.receive(from, next, part(rank_) * item, scratch);
      parts[from] = next;
      next += part(rank_) * item;
    }
    call.run();
    if (part(rank_) == 0) continue;
    parts[rank_] = slot(rank_);
    reduce_parts(parts, bytes_of(mine) + start * item, part(rank_), in.scalar_type(), op);
  }
}

void HostCommunicator::reduce_whole(Call& call, const at::Tensor& tensor, ReduceOp op) {
  const auto length = static_cast<int64_t>(tensor.nbytes());
  const at::Tensor scratch = at::empty({(size() - 1) * length}, at::kByte);
  std::vector<const char*> parts(size());
  parts[rank_] = bytes_of(tensor);
  char* next = bytes_of(scratch);
  for (int step = 1; step < size(); ++step, next += length) {
    const int to = (rank_ + step) % size(), from = (rank_ - step + size()) % size();
    call.send(to, bytes_of(tensor), length, tensor);
    call.receive(from, next, length, scratch);
    parts[from] = next;
  }
  call.run();
  reduce_parts(parts, bytes_of(tensor), tensor.numel(), tensor.scalar_type(), op);
}

void HostCommunicator::all_reduce(at::Tensor& tensor, ReduceOp op) {
  check_tensor(tensor, "all_reduce's tensor");
  Call call = begin(Collective::kAllReduce, tensor, tensor.numel() * 4 + static_cast<int64_t>(op));
  if (size() == 1) return;
  if (static_cast<int64_t>(tensor.nbytes()) <= kWholeBytes) return reduce_whole(call, tensor, op);
  std::vector<int64_t> counts(size());
  for (int r = 0; r < size(); ++r) counts[r] = tensor.numel() * (r + 1) / size() - tensor.numel() * r / size();
  const at::Tensor flat = tensor.view({-1});
  const at::Tensor own = flat.narrow(0, tensor.numel() * rank_ / size(), counts[rank_]);
  reduce_slots(call, flat, own, counts, op);
  gather_slots(call, bytes_of(own), flat, counts);
}

void HostCommunicator::all_gather_v(const at::Tensor& mine, at::Tensor& out, std::span<const int64_t> counts) {
  check_tensor(mine, "all_gather_v's own part");
  check_tensor(out, "all_gather_v's out");
  check_counts(counts, out, "all_gather_v's out");
  check(mine.numel() == counts[rank_] && mine.scalar_type() == out.scalar_type(), "axis ", axis_,
        ": all_gather_v's own part has ", mine.numel(), " elements of ", c10::toString(mine.scalar_type()),
        ", its slot ", counts[rank_], " of ", c10::toString(out.scalar_type()));
  Call call = begin(Collective::kAllGatherV, out, signature(counts));
  gather_slots(call, bytes_of(mine), out, counts);
}

void HostCommunicator::reduce_scatter_v(const at::Tensor& in, at::Tensor& mine, std::span<const int64_t> counts) {
  check_tensor(in, "reduce_scatter_v's in");
  check_tensor(mine, "reduce_scatter_v's own part");
  check_counts(counts, in, "reduce_scatter_v's in");
  check(mine.numel() == counts[rank_] && mine.scalar_type() == in.scalar_type(), "axis ", axis_,
        ": reduce_scatter_v's own part has ", mine.numel(), " elements of ", c10::toString(mine.scalar_type()),
        ", its slice ", counts[rank_], " of ", c10::toString(in.scalar_type()));
  Call call = begin(Collective::kReduceScatterV, in, signature(counts));
  if (size() > 1) return reduce_slots(call, in, mine, counts, ReduceOp::kSum);
  if (mine.numel() > 0 && mine.data_ptr() != in.data_ptr()) std::memcpy(bytes_of(mine), bytes_of(in), in.nbytes());
}

void HostCommunicator::all_to_all_v(const at::Tensor& in, std::span<const int64_t> in_counts, at::Tensor& out,
                                    std::span<const int64_t> out_counts) {
  check_tensor(in, "all_to_all_v's in");
  check_tensor(out, "all_to_all_v's out");
  check_counts(in_counts, in, "all_to_all_v's in");
  check_counts(out_counts, out, "all_to_all_v's out");
  check(in.scalar_type() == out.scalar_type() && in_counts[rank_] == out_counts[rank_], "axis ", axis_,
        ": all_to_all_v's in and out differ in dtype or in the rank's slice for itself");
  Call call = begin(Collective::kAllToAllV, in, 0);
  const int64_t item = in.element_size();
  const std::vector<int64_t> in_offset = offsets_of(in_counts), out_offset = offsets_of(out_counts);
  if (in_counts[rank_] > 0) {
    std::memmove(bytes_of(out) + out_offset[rank_] * item, bytes_of(in) + in_offset[rank_] * item,
                 in_counts[rank_] * item);
  }
  for (int step = 1; step < size(); ++step) {
    const int to = (rank_ + step) % size(), from = (rank_ - step + size()) % size();
    call.send(to, bytes_of(in) + in_offset[to] * item, in_counts[to] * item, in);
    call.receive(from, bytes_of(out) + out_offset[from] * item, out_counts[from] * item, out);
  }
  call.run();
}

void HostCommunicator::broadcast(at::Tensor& tensor, int root) {
  check_tensor(tensor, "broadcast's tensor");
  check(root >= 0 && root < size(), "axis ", axis_, ": broadcast names root ", root, " of ", size());
  Call call = begin(Collective::kBroadcast, tensor, root);
  const auto length = static_cast<int64_t>(tensor.nbytes());
  const int from_root = (rank_ - root + size()) % size();
  const auto rank_at = [&](int distance) { return (root + distance) % size(); };
  // Binomial tree: a rank hears from the one whose distance lacks its highest bit, then tells those above that bit.
  int bit = 1;
  while (bit <= from_root) bit <<= 1;
  if (from_root > 0) {
    call.receive(rank_at(from_root - bit / 2), bytes_of(tensor), length, tensor);
    const bool checked = call.checked;
    call.run();
    call.checked = checked;  // the messages to the children are their first ones
  }
  for (; from_root + bit < size(); bit <<= 1) call.send(rank_at(from_root + bit), bytes_of(tensor), length, tensor);
  call.run();
}

void HostCommunicator::barrier() {
  Call call = begin(Collective::kBarrier, {}, 0);
  // Dissemination: after round k a rank knows of the 2^k ranks before it. The headers are the messages.
  for (int step = 1; step < size(); step <<= 1) {
    call.checked = true;
    call.send((rank_ + step) % size(), nullptr, 0, {});
    call.receive((rank_ - step % size() + size()) % size(), nullptr, 0, {});
    call.run();
  }
}

std::unique_ptr<Communicator> HostCommunicator::split(const std::string& axis, int color, int key) {
  at::Tensor wishes = at::empty({size(), 3}, at::kLong);  // [rank]: color, key, first free tag
  int64_t* wish = wishes.data_ptr<int64_t>();
  wish[rank_ * 3] = color;
  wish[rank_ * 3 + 1] = key;
  wish[rank_ * 3 + 2] = transport_->next_tag();
  const std::vector<int64_t> counts(size(), 3), name(axis.begin(), axis.end());
  Call call = begin(Collective::kSplit, wishes, signature(name));
  gather_slots(call, bytes_of(wishes) + rank_ * 3 * sizeof(int64_t), wishes.view({-1}), counts);
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
