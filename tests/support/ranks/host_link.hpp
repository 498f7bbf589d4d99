#pragma once
// Tests: a StreamLink over host messages, so that what is planned for NCCL is held to the communicators' laws without a
// GPU.

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "fpdist/comm/communicator.hpp"
#include "src/comm/device/stream_link.hpp"
#include "src/comm/work.hpp"

namespace fpdist::test {

class HostLink final : public comm::StreamLink {
 public:
  /// Collective: has a communicator of its own, as NCCL has.
  explicit HostLink(comm::Communicator& host) : own_(host.split(host.axis(), 0, host.rank())) {}

  std::unique_ptr<comm::Work> group(const comm::GroupMessages& messages, const comm::Place&) override {
    return comm::start_group(*own_, messages);
  }
  std::unique_ptr<comm::Work> all_reduce(const at::Tensor& tensor, comm::ReduceOp op, const comm::Place&) override {
    at::Tensor same = tensor;
    own_->all_reduce(same, op);
    return comm::done_work();
  }
  std::unique_ptr<comm::Work> all_gather(const at::Tensor& mine, const at::Tensor& out, const comm::Place&) override {
    at::Tensor same = out;
    own_->all_gather_v(mine, same, counts(mine));
    return comm::done_work();
  }
  std::unique_ptr<comm::Work> reduce_scatter(const at::Tensor& in, const at::Tensor& mine,
                                             const comm::Place&) override {
    at::Tensor same = mine;
    own_->reduce_scatter_v(in, same, counts(mine));
    return comm::done_work();
  }
  std::unique_ptr<comm::Work> broadcast(const at::Tensor& tensor, int root, const comm::Place&) override {
    at::Tensor same = tensor;
    own_->broadcast(same, root);
    return comm::done_work();
  }

 private:
  std::vector<int64_t> counts(const at::Tensor& part) const {
    return std::vector<int64_t>(static_cast<size_t>(own_->size()), part.numel());
  }
  std::unique_ptr<comm::Communicator> own_;
};

}  // namespace fpdist::test
