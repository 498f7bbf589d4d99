#pragma once
// comm, private: a communicator's device tensors over a StreamLink: unequal counts become messages, one per peer.

#include <memory>
#include <vector>

#include "src/comm/device/device_side.hpp"
#include "src/comm/device/stream_link.hpp"
#include "src/comm/journal.hpp"

namespace fpdist::comm {

class StreamSide final : public DeviceSide {
 public:
  /// `link` is null on a communicator of one rank: nothing travels then.
  StreamSide(Communicator& host, std::unique_ptr<StreamLink> link) : host_(host), link_(std::move(link)) {}

  std::unique_ptr<Work> group(const GroupMessages& messages) override;
  /// MIN and MAX of floating point are made from everyone's values: NCCL's lose NaN.
  std::unique_ptr<Work> all_reduce(const at::Tensor& tensor, ReduceOp op) override;
  std::unique_ptr<Work> all_gather_v(const at::Tensor& mine, const at::Tensor& out, Counts counts) override;
  /// The sum over equal counts is the link's own. Over unequal ones every rank gets the others' parts and adds in
  /// ascending rank order, bfloat16 in float32: the bits of the host communicator.
  std::unique_ptr<Work> reduce_scatter_v(const at::Tensor& in, const at::Tensor& mine, Counts counts) override;
  /// Made of messages, always: no rank knows from its own counts whether all ranks' are equal.
  std::unique_ptr<Work> all_to_all_v(const at::Tensor& in, Counts in_counts, const at::Tensor& out,
                                     Counts out_counts) override;
  std::unique_ptr<Work> broadcast(const at::Tensor& tensor, int root) override;
  void keep_buffer(const at::Tensor& buffer) override;
  Traffic traffic() const override { return traffic_; }
  void check_health() const override;
  void abort(const std::string& reason) noexcept override;

 private:
  int rank() const { return host_.rank(); }
  int size() const { return host_.size(); }
  Place place(Collective collective);
  void count(int64_t bytes, int64_t messages);
  std::unique_ptr<Work> send_messages(const GroupMessages& messages, const Place& place);
  std::unique_ptr<Work> record(std::unique_ptr<Work> work, const Place& place, const at::Tensor& tensor, int64_t bytes,
                               std::vector<int> peers);
  std::unique_ptr<Work> record(std::unique_ptr<Work> work, const Place& place, const at::Tensor& tensor);

  Communicator& host_;
  std::unique_ptr<StreamLink> link_;
  int64_t calls_ = 0, groups_ = 0;
  Traffic traffic_;
};

}  // namespace fpdist::comm
