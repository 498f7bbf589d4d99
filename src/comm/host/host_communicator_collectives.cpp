// The collectives of HostCommunicator, each made of exchanges between pairs.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/core/ScalarType.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/comm/host/host_call.hpp"
#include "src/comm/host/host_communicator.hpp"
#include "src/comm/reduce.hpp"

namespace fpdist::comm {
namespace {

/// A sum of no more is made by everyone from everything: log n messages instead of n, in the same order.
constexpr int64_t kWholeBytes = 64 << 10;

}  // namespace

/// Bruck's gather: in round k a rank hands the parts of 2^k ranks, its own and those below it that it has got, to the
/// rank 2^k above, and gets as many from the rank 2^k below: ceil(log2 n) messages in place of n - 1, and no byte more.
/// It goes the way of the barrier, so that ranks of which one has called something else meet in the first round.
/// Source: Bruck et al., "Efficient algorithms for all-to-all communications in multiport message-passing systems"
/// (1997).
void HostCommunicator::gather_slots(Call& call, const char* mine, const at::Tensor& out,
                                    std::span<const int64_t> counts) {
  const int64_t item = out.element_size();
  const std::vector<int64_t> offset = offsets_of(counts);
  char* slots = data_of(out);
  if (counts[rank_] > 0) std::memmove(slots + offset[rank_] * item, mine, counts[rank_] * item);
  // The parts of `more` ranks from `first` on, which may go on at rank 0: two pieces of `out`, the second mostly empty.
  const auto pieces = [&](int first, int more) {
    const int end = std::min(first + more, size()), over = std::max(0, first + more - size());
    return std::array{std::pair(slots + offset[first] * item, (offset[end] - offset[first]) * item),
                      std::pair(slots, offset[over] * item)};
  };
  const bool checked = call.checked;
  for (int have = 1, round = 0; have < size(); have *= 2, ++round) {
    const int more = std::min(have, size() - have);
    const auto own = pieces((rank_ - more + 1 + size()) % size(), more);
    const auto theirs = pieces((rank_ - have - more + 1 + 2 * size()) % size(), more);
    const bool wraps = own[1].second > 0, arrives_wrapped = theirs[1].second > 0;
    const int64_t sent = own[0].second + own[1].second, received = theirs[0].second + theirs[1].second;
    const at::Tensor scratch = at::empty({(wraps ? sent : 0) + (arrives_wrapped ? received : 0)}, at::kByte);
    char* const arrival = data_of(scratch) + (wraps ? sent : 0);
    if (wraps) {
      std::memcpy(data_of(scratch), own[0].first, own[0].second);
      std::memcpy(data_of(scratch) + own[0].second, own[1].first, own[1].second);
    }
    call.checked = checked;  // each round has peers of its own
    call.send((rank_ + have) % size(), wraps ? data_of(scratch) : own[0].first, sent, wraps ? scratch : out);
    call.receive((rank_ - have + size()) % size(), arrives_wrapped ? arrival : theirs[0].first, received,
                 arrives_wrapped ? scratch : out);
    call.exchange.round = round;
    call.run();
    if (!arrives_wrapped) continue;
    std::memcpy(theirs[0].first, arrival, theirs[0].second);
    std::memcpy(theirs[1].first, arrival + theirs[0].second, theirs[1].second);
  }
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
    const auto slot = [&](int rank) { return data_of(in) + (offset[rank] + start) * item; };
    char* next = data_of(scratch);
    for (int step = 1; step < size(); ++step) {
      const auto [to, from] = partners(rank_, step, size());
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
    reduce_parts(parts, data_of(mine) + start * item, part(rank_), in.scalar_type(), op);
  }
}

void HostCommunicator::reduce_whole(Call& call, const at::Tensor& in, const at::Tensor& mine, int64_t begin,
                                    ReduceOp op) {
  const at::Tensor all = at::empty({size() * in.numel()}, in.options());
  gather_slots(call, data_of(in), all, std::vector<int64_t>(size(), in.numel()));
  std::vector<const char*> parts(size());
  for (int r = 0; r < size(); ++r) parts[r] = data_of(all) + (r * in.numel() + begin) * in.element_size();
  reduce_parts(parts, data_of(mine), mine.numel(), in.scalar_type(), op);
}

void HostCommunicator::all_reduce(at::Tensor& tensor, ReduceOp op) {
  check_host_tensor(here(), tensor, "all_reduce's tensor");
  Call call = begin(Collective::kAllReduce, tensor, tensor.numel() * 4 + static_cast<int64_t>(op));
  if (size() == 1) return;
  if (static_cast<int64_t>(tensor.nbytes()) <= kWholeBytes) return reduce_whole(call, tensor, tensor, 0, op);
  std::vector<int64_t> counts(size());
  for (int r = 0; r < size(); ++r) counts[r] = tensor.numel() * (r + 1) / size() - tensor.numel() * r / size();
  const at::Tensor flat = tensor.view({-1});
  const at::Tensor own = flat.narrow(0, tensor.numel() * rank_ / size(), counts[rank_]);
  reduce_slots(call, flat, own, counts, op);
  gather_slots(call, data_of(own), flat, counts);
}

void HostCommunicator::all_gather_v(const at::Tensor& mine, at::Tensor& out, std::span<const int64_t> counts) {
  check_host_tensor(here(), mine, "all_gather_v's own part");
  check_host_tensor(here(), out, "all_gather_v's out");
  check_gather(here(), mine, out, counts, size());
  Call call = begin(Collective::kAllGatherV, out, signature(counts));
  gather_slots(call, data_of(mine), out, counts);
}

void HostCommunicator::reduce_scatter_v(const at::Tensor& in, at::Tensor& mine, std::span<const int64_t> counts) {
  check_host_tensor(here(), in, "reduce_scatter_v's in");
  check_host_tensor(here(), mine, "reduce_scatter_v's own part");
  check_scatter(here(), in, mine, counts, size());
  Call call = begin(Collective::kReduceScatterV, in, signature(counts));
  if (size() > 2 && static_cast<int64_t>(in.nbytes()) * size() <= kWholeBytes)
    return reduce_whole(call, in, mine, offsets_of(counts)[rank_], ReduceOp::kSum);
  if (size() > 1) return reduce_slots(call, in, mine, counts, ReduceOp::kSum);
  if (mine.numel() > 0 && mine.data_ptr() != in.data_ptr()) std::memcpy(data_of(mine), data_of(in), in.nbytes());
}

void HostCommunicator::all_to_all_v(const at::Tensor& in, std::span<const int64_t> in_counts, at::Tensor& out,
                                    std::span<const int64_t> out_counts) {
  check_host_tensor(here(), in, "all_to_all_v's in");
  check_host_tensor(here(), out, "all_to_all_v's out");
  check_exchange(here(), in, in_counts, out, out_counts, size());
  Call call = begin(Collective::kAllToAllV, in, 0);
  const int64_t item = in.element_size();
  const std::vector<int64_t> in_offset = offsets_of(in_counts), out_offset = offsets_of(out_counts);
  if (in_counts[rank_] > 0) {
    std::memmove(data_of(out) + out_offset[rank_] * item, data_of(in) + in_offset[rank_] * item,
                 in_counts[rank_] * item);
  }
  for (int step = 1; step < size(); ++step) {
    const auto [to, from] = partners(rank_, step, size());
    call.send(to, data_of(in) + in_offset[to] * item, in_counts[to] * item, in);
    call.receive(from, data_of(out) + out_offset[from] * item, out_counts[from] * item, out);
  }
  call.run();
}

void HostCommunicator::broadcast(at::Tensor& tensor, int root) {
  check_host_tensor(here(), tensor, "broadcast's tensor");
  check_root(here(), root, size());
  Call call = begin(Collective::kBroadcast, tensor, root);
  const auto length = static_cast<int64_t>(tensor.nbytes());
  const int from_root = (rank_ - root + size()) % size();
  const auto rank_at = [&](int distance) { return (root + distance) % size(); };
  // Binomial tree: a rank hears from the one whose distance lacks its highest bit, then tells those above that bit.
  int bit = 1;
  while (bit <= from_root) bit <<= 1;
  if (from_root > 0) {
    call.receive(rank_at(from_root - bit / 2), data_of(tensor), length, tensor);
    const bool checked = call.checked;
    call.run();
    call.checked = checked;  // the messages to the children are their first ones
  }
  for (; from_root + bit < size(); bit <<= 1) call.send(rank_at(from_root + bit), data_of(tensor), length, tensor);
  call.run();
}

void HostCommunicator::barrier() {
  Call call = begin(Collective::kBarrier, {}, 0);
  // Dissemination: after round k a rank knows of the 2^k ranks before it. The headers are the messages.
  for (int step = 1, round = 0; step < size(); step <<= 1, ++round) {
    call.checked = true;
    call.exchange.round = round;
    call.send((rank_ + step) % size(), nullptr, 0, {});
    call.receive((rank_ - step % size() + size()) % size(), nullptr, 0, {});
    call.run();
  }
}

}  // namespace fpdist::comm
