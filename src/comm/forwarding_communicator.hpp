#pragma once
// comm, private: ForwardingCommunicator, a communicator that leaves every call to another one. Those that change a few
// calls of a communicator derive from it and say no more than these.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "fpdist/comm/communicator.hpp"

namespace fpdist::comm {

class ForwardingCommunicator : public Communicator {
 public:
  explicit ForwardingCommunicator(std::shared_ptr<Communicator> inner) : inner_(std::move(inner)) {}

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  const std::string& axis() const override { return inner_->axis(); }

  void group_begin() override { inner_->group_begin(); }
  void send(const at::Tensor& tensor, int peer) override { inner_->send(tensor, peer); }
  void receive(at::Tensor& tensor, int peer) override { inner_->receive(tensor, peer); }
  void group_end() override { inner_->group_end(); }
  std::unique_ptr<Work> group_start() override { return inner_->group_start(); }

  void all_reduce(at::Tensor& tensor, ReduceOp op) override { inner_->all_reduce(tensor, op); }
  void all_gather_v(const at::Tensor& mine, at::Tensor& out, std::span<const int64_t> counts) override {
    inner_->all_gather_v(mine, out, counts);
  }
  void reduce_scatter_v(const at::Tensor& in, at::Tensor& mine, std::span<const int64_t> counts) override {
    inner_->reduce_scatter_v(in, mine, counts);
  }
  void all_to_all_v(const at::Tensor& in, std::span<const int64_t> in_counts, at::Tensor& out,
                    std::span<const int64_t> out_counts) override {
    inner_->all_to_all_v(in, in_counts, out, out_counts);
  }
  void broadcast(at::Tensor& tensor, int root) override { inner_->broadcast(tensor, root); }
  void barrier() override { inner_->barrier(); }

  std::unique_ptr<Work> start_all_reduce(at::Tensor& tensor, ReduceOp op) override {
    return inner_->start_all_reduce(tensor, op);
  }
  std::unique_ptr<Work> start_all_gather_v(const at::Tensor& mine, at::Tensor& out,
                                           std::span<const int64_t> counts) override {
    return inner_->start_all_gather_v(mine, out, counts);
  }
  std::unique_ptr<Work> start_reduce_scatter_v(const at::Tensor& in, at::Tensor& mine,
                                               std::span<const int64_t> counts) override {
    return inner_->start_reduce_scatter_v(in, mine, counts);
  }
  std::unique_ptr<Work> start_all_to_all_v(const at::Tensor& in, std::span<const int64_t> in_counts, at::Tensor& out,
                                           std::span<const int64_t> out_counts) override {
    return inner_->start_all_to_all_v(in, in_counts, out, out_counts);
  }

  void keep_buffer(const at::Tensor& buffer) override { inner_->keep_buffer(buffer); }
  Traffic traffic() const override { return inner_->traffic(); }
  std::unique_ptr<Communicator> split(const std::string& axis, int color, int key) override {
    return inner_->split(axis, color, key);
  }
  void abort(const std::string& reason) noexcept override { inner_->abort(reason); }

  const CommOptions& options() const override { return inner_->options(); }
  const std::shared_ptr<Journal>& journal() const override { return inner_->journal(); }
  const std::vector<int>& members() const override { return inner_->members(); }

 protected:
  Communicator& inner() const { return *inner_; }

 private:
  std::shared_ptr<Communicator> inner_;
};

}  // namespace fpdist::comm
