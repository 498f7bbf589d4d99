#include "src/comm/arguments.hpp"

#include <c10/core/ScalarType.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "fpdist/core/error.hpp"
#include "src/core/index.hpp"

namespace fpdist::comm {

std::vector<int64_t> offsets_of(std::span<const int64_t> counts) {
  std::vector<int64_t> offset(counts.size() + 1, 0);
  std::partial_sum(counts.begin(), counts.end(), offset.begin() + 1);
  return offset;
}

void check_tensor(const Here& here, const at::Tensor& tensor, const char* what) {
  check(tensor.defined(), here, ": ", what, " is undefined");
  check(tensor.is_contiguous(), here, ": ", what, " is not contiguous; call contiguous() first");
  switch (tensor.scalar_type()) {
    case at::kFloat:
    case at::kDouble:
    case at::kBFloat16:
    case at::kInt:
    case at::kLong:
    case at::kByte:
      return;
    default:
      throw ShapeError(text(here, ": ", what, " is ", c10::toString(tensor.scalar_type()),
                            "; ranks exchange float32, float64, bfloat16, int32, int64 and uint8"));
  }
}

void check_host_tensor(const Here& here, const at::Tensor& tensor, const char* what) {
  check(!tensor.defined() || tensor.device().is_cpu(), here, ": ", what,
        " is not on the CPU; a communicator that Device::extend has made carries its tensors too");
  check_tensor(here, tensor, what);
}

void check_counts(const Here& here, std::span<const int64_t> counts, int size, const at::Tensor& whole,
                  const char* what) {
  check(static_cast<int>(counts.size()) == size, here, ": ", counts.size(), " counts for ", what, " on ", size,
        " ranks");
  int64_t sum = 0;
  for (const int64_t count : counts) {
    check(count >= 0, here, ": a count of ", what, " is ", count);
    sum += count;
  }
  check(sum == whole.numel(), here, ": the counts of ", what, " add up to ", sum, ", the tensor has ", whole.numel(),
        " elements");
}

void check_gather(const Here& here, const at::Tensor& mine, const at::Tensor& out, std::span<const int64_t> counts,
                  int size) {
  check_counts(here, counts, size, out, "all_gather_v's out");
  const int64_t slot = counts[index(here.rank)];
  check(mine.numel() == slot && mine.scalar_type() == out.scalar_type(), here, ": all_gather_v's own part has ",
        mine.numel(), " elements of ", c10::toString(mine.scalar_type()), ", its slot ", slot, " of ",
        c10::toString(out.scalar_type()));
}

void check_scatter(const Here& here, const at::Tensor& in, const at::Tensor& mine, std::span<const int64_t> counts,
                   int size) {
  check_counts(here, counts, size, in, "reduce_scatter_v's in");
  const int64_t slice = counts[index(here.rank)];
  check(mine.numel() == slice && mine.scalar_type() == in.scalar_type(), here, ": reduce_scatter_v's own part has ",
        mine.numel(), " elements of ", c10::toString(mine.scalar_type()), ", its slice ", slice, " of ",
        c10::toString(in.scalar_type()));
}

void check_exchange(const Here& here, const at::Tensor& in, std::span<const int64_t> in_counts, const at::Tensor& out,
                    std::span<const int64_t> out_counts, int size) {
  check_counts(here, in_counts, size, in, "all_to_all_v's in");
  check_counts(here, out_counts, size, out, "all_to_all_v's out");
  const size_t rank = index(here.rank);
  check(in.scalar_type() == out.scalar_type() && in_counts[rank] == out_counts[rank], here,
        ": all_to_all_v's in and out differ in dtype or in the rank's slice for itself");
}

void check_root(const Here& here, int root, int size) {
  check(root >= 0 && root < size, here, ": broadcast names root ", root, " of ", size);
}

void GroupBuilder::begin(const Here& here) {
  check<CommError>(!is_open_, here, ": group_begin inside a group");
  is_open_ = true;
}

void GroupBuilder::add(const Here& here, std::vector<GroupMessage>& side, const GroupMessage& message, int size,
                       const char* what, const TensorCheck& check_one) {
  try {
    check<CommError>(is_open_, here, ": ", what, " outside group_begin and group_end");
    check_one(here, message.tensor, what);
    check(message.peer >= 0 && message.peer < size, here, ": ", what, " names rank ", message.peer, " of ", size);
    for (const GroupMessage& other : side) {
      check<CommError>(other.peer != message.peer, here, ": a second ", what, " with rank ", message.peer,
                       " in one group; put it into a group of its own");
    }
  } catch (...) {  // the group is given up: nothing has moved yet
    is_open_ = false;
    messages_ = {};
    throw;
  }
  side.push_back(message);
}

void GroupBuilder::send(const Here& here, const at::Tensor& tensor, int peer, int size, const TensorCheck& check_one) {
  add(here, messages_.sends, {.tensor = tensor, .peer = peer}, size, "send", check_one);
}

void GroupBuilder::receive(const Here& here, const at::Tensor& tensor, int peer, int size,
                           const TensorCheck& check_one) {
  add(here, messages_.receives, {.tensor = tensor, .peer = peer}, size, "receive", check_one);
}

GroupMessages GroupBuilder::take(const Here& here) {
  check<CommError>(is_open_, here, ": group_end without group_begin");
  is_open_ = false;
  GroupMessages taken = std::exchange(messages_, {});
  const auto is_own = [&](const GroupMessage& message) { return message.peer == here.rank; };
  const auto from = std::find_if(taken.sends.begin(), taken.sends.end(), is_own);
  const auto into = std::find_if(taken.receives.begin(), taken.receives.end(), is_own);
  check<CommError>((from == taken.sends.end()) == (into == taken.receives.end()), here,
                   ": a message to oneself needs both its send and its receive in the group");
  if (from == taken.sends.end()) return taken;
  check<CommError>(from->tensor.nbytes() == into->tensor.nbytes(), here, ": a message to oneself is sent with ",
                   from->tensor.nbytes(), " bytes and received with ", into->tensor.nbytes());
  check<CommError>(from->tensor.device() == into->tensor.device(), here, ": a message to oneself is sent from ",
                   from->tensor.device(), " and received on ", into->tensor.device());
  return taken;
}

std::unique_ptr<Work> start_group(Communicator& communicator, const GroupMessages& messages) {
  communicator.group_begin();
  for (const GroupMessage& message : messages.sends) communicator.send(message.tensor, message.peer);
  for (GroupMessage message : messages.receives) communicator.receive(message.tensor, message.peer);
  return communicator.group_start();
}

}  // namespace fpdist::comm
