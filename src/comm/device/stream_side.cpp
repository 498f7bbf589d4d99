#include "src/comm/device/stream_side.hpp"

#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/amax.h>
#include <ATen/ops/amin.h>
#include <ATen/ops/empty.h>
#include <c10/core/ScalarType.h>

#include <algorithm>
#include <utility>

#include "src/comm/work.hpp"
#include "src/core/index.hpp"

namespace fpdist::comm {
namespace {

bool are_equal(std::span<const int64_t> counts) {
  return std::all_of(counts.begin(), counts.end(), [&](int64_t count) { return count == counts.front(); });
}

int64_t bytes_of(const at::Tensor& tensor) { return static_cast<int64_t>(tensor.nbytes()); }

/// Slice `rank` of a flat tensor that is made of slices.
at::Tensor slice_of(const at::Tensor& flat, std::span<const int64_t> counts, int rank) {
  return flat.narrow(0, offsets_of(counts)[index(rank)], counts[index(rank)]);
}

void copy_unless_same(const at::Tensor& from, const at::Tensor& into) {
  if (from.numel() > 0 && from.data_ptr() != into.data_ptr()) into.view({-1}).copy_(from.view({-1}));
}

/// out <- the sum of the parts in their order, bfloat16 in float32 and rounded once (kernels/part_sum): this room
/// stands above the kernels and knows the operator by its name.
void sum_parts(const std::vector<at::Tensor>& parts, const at::Tensor& out) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("fpdist::sum_parts", "")
                             .typed<void(at::TensorList, const at::Tensor&)>();
  op.call(parts, out);
}

}  // namespace

Place StreamSide::place(Collective collective) {
  return {.collective = collective,
          .sequence = collective == Collective::kGroup ? ++groups_ : ++calls_,
          .axis = std::make_shared<const std::string>(host_.axis()),
          .rank = rank(),
          .size = size(),
          .world_rank = host_.members()[index(rank())],
          .position = host_.journal()->position(),
          .journal = host_.journal().get()};
}

void StreamSide::count(int64_t bytes, int64_t messages) {
  traffic_.bytes += bytes;
  traffic_.messages += bytes > 0 ? messages : 0;
}

void StreamSide::check_health() const {
  if (link_) link_->check_health();
}

void StreamSide::abort(const std::string& reason) noexcept {
  if (link_) link_->abort(reason);
}

void StreamSide::keep_buffer(const at::Tensor& buffer) {
  if (link_) link_->keep_buffer(buffer);
}

std::unique_ptr<Work> StreamSide::record(std::unique_ptr<Work> work, const Place& place, const at::Tensor& tensor,
                                         int64_t bytes, std::vector<int> peers) {
  const int64_t id = host_.journal()->open({.collective = place.collective,
                                            .sequence = place.sequence,
                                            .dtype = tensor.defined() ? c10::toString(tensor.scalar_type()) : "",
                                            .bytes = bytes,
                                            .peers = std::move(peers),
                                            .axis = place.axis,
                                            .position = place.position});
  return std::make_unique<RecordedWork>(host_.journal(), id, std::move(work));
}

std::unique_ptr<Work> StreamSide::record(std::unique_ptr<Work> work, const Place& place, const at::Tensor& tensor) {
  std::vector<int> peers = host_.members();
  std::erase(peers, place.world_rank);
  return record(std::move(work), place, tensor, bytes_of(tensor), std::move(peers));
}

/// The messages that travel, at once; the one to oneself is a copy on the current stream.
std::unique_ptr<Work> StreamSide::send_messages(const GroupMessages& messages, const Place& place) {
  GroupMessages travelling;
  const auto is_own = [&](const GroupMessage& message) { return message.peer == rank(); };
  for (const GroupMessage& message : messages.sends) {
    if (is_own(message)) {
      const auto into = std::find_if(messages.receives.begin(), messages.receives.end(), is_own);
      if (message.tensor.scalar_type() == into->tensor.scalar_type()) {
        copy_unless_same(message.tensor, into->tensor);
      } else {  // bytes are bytes, as on the host
        copy_unless_same(message.tensor.view({-1}).view(at::kByte), into->tensor.view({-1}).view(at::kByte));
      }
    } else if (message.tensor.numel() > 0) {
      travelling.sends.push_back(message);
      count(bytes_of(message.tensor), 1);
    }
  }
  for (const GroupMessage& message : messages.receives) {
    if (!is_own(message) && message.tensor.numel() > 0) travelling.receives.push_back(message);
  }
  if (travelling.sends.empty() && travelling.receives.empty()) return done_work();
  return link_->group(travelling, place);
}

std::unique_ptr<Work> StreamSide::group(const GroupMessages& messages) {
  const Place here = place(Collective::kGroup);
  int64_t bytes = 0;
  at::Tensor any;
  std::vector<int> peers;
  for (const auto* side : {&messages.sends, &messages.receives}) {
    for (const GroupMessage& message : *side) {
      const int peer = host_.members()[index(message.peer)];
      if (std::find(peers.begin(), peers.end(), peer) == peers.end()) peers.push_back(peer);
      bytes += bytes_of(message.tensor);
      any = message.tensor;
    }
  }
  return record(send_messages(messages, here), here, any, bytes, std::move(peers));
}

std::unique_ptr<Work> StreamSide::all_reduce(const at::Tensor& tensor, ReduceOp op) {
  const Place here = place(Collective::kAllReduce);
  if (size() == 1 || tensor.numel() == 0) return record(done_work(), here, tensor);
  if (op == ReduceOp::kSum || !tensor.is_floating_point()) {
    count(2 * bytes_of(tensor) * (size() - 1) / size(), 2 * (size() - 1));
    return record(link_->all_reduce(tensor, op, here), here, tensor);
  }
  const at::Tensor all = at::empty({size(), tensor.numel()}, tensor.options());
  count(bytes_of(tensor) * (size() - 1), size() - 1);
  auto gathered = std::make_unique<ThenWork>(link_->all_gather(tensor, all, here), [tensor, all, op] {
    tensor.view({-1}).copy_(op == ReduceOp::kMin ? at::amin(all, 0) : at::amax(all, 0));
  });
  return record(std::move(gathered), here, tensor);
}

std::unique_ptr<Work> StreamSide::all_gather_v(const at::Tensor& mine, const at::Tensor& out, Counts counts) {
  const Place here = place(Collective::kAllGatherV);
  const at::Tensor flat = out.view({-1}), slot = slice_of(flat, counts, rank());
  if (size() == 1 || out.numel() == 0) {
    copy_unless_same(mine, slot);
    return record(done_work(), here, out);
  }
  if (are_equal(counts)) {
    count(bytes_of(mine) * (size() - 1), size() - 1);
    return record(link_->all_gather(mine, out, here), here, out);
  }
  copy_unless_same(mine, slot);
  GroupMessages messages;
  for (int step = 1; step < size(); ++step) {
    const auto [to, from] = partners(rank(), step, size());
    messages.sends.push_back({.tensor = slot, .peer = to});
    messages.receives.push_back({.tensor = slice_of(flat, counts, from), .peer = from});
  }
  return record(send_messages(messages, here), here, out);
}

std::unique_ptr<Work> StreamSide::reduce_scatter_v(const at::Tensor& in, const at::Tensor& mine, Counts counts) {
  const Place here = place(Collective::kReduceScatterV);
  const at::Tensor flat = in.view({-1}), own = slice_of(flat, counts, rank());
  if (size() == 1 || in.numel() == 0) {
    copy_unless_same(own, mine);
    return record(done_work(), here, in);
  }
  if (are_equal(counts)) {
    count(bytes_of(mine) * (size() - 1), size() - 1);
    return record(link_->reduce_scatter(in, mine, here), here, in);
  }
  GroupMessages messages;
  std::vector<at::Tensor> parts(index(size()));
  parts[index(rank())] = own;
  for (int step = 1; step < size(); ++step) {
    const auto [to, from] = partners(rank(), step, size());
    messages.sends.push_back({.tensor = slice_of(flat, counts, to), .peer = to});
    parts[index(from)] = at::empty({own.numel()}, in.options());
    messages.receives.push_back({.tensor = parts[index(from)], .peer = from});
  }
  auto arrived = send_messages(messages, here);
  if (own.numel() == 0) return record(std::move(arrived), here, in);
  return record(std::make_unique<ThenWork>(std::move(arrived), [parts, mine] { sum_parts(parts, mine.view({-1})); }),
                here, in);
}

std::unique_ptr<Work> StreamSide::all_to_all_v(const at::Tensor& in, Counts in_counts, const at::Tensor& out,
                                               Counts out_counts) {
  const Place here = place(Collective::kAllToAllV);
  const at::Tensor from_flat = in.view({-1}), into_flat = out.view({-1});
  if (size() == 1) {
    copy_unless_same(from_flat, into_flat);
    return record(done_work(), here, in);
  }
  GroupMessages messages;
  for (int step = 0; step < size(); ++step) {
    const auto [to, from] = partners(rank(), step, size());
    messages.sends.push_back({.tensor = slice_of(from_flat, in_counts, to), .peer = to});
    messages.receives.push_back({.tensor = slice_of(into_flat, out_counts, from), .peer = from});
  }
  return record(send_messages(messages, here), here, in);
}

std::unique_ptr<Work> StreamSide::broadcast(const at::Tensor& tensor, int root) {
  const Place here = place(Collective::kBroadcast);
  if (size() == 1 || tensor.numel() == 0) return record(done_work(), here, tensor);
  count((rank() + 1) % size() == root ? 0 : bytes_of(tensor), 1);  // a chain from the root
  return record(link_->broadcast(tensor, root, here), here, tensor);
}

}  // namespace fpdist::comm
