#pragma once
// comm, private: an axis whose neighbours talk on communicators of their own, one for each directed pair of a ring. A
// device's transport does what was begun on one communicator in that order, on one stream; with interleaved pipeline
// stages, where rows also go from the last rank to the first, two ranks may each wait in a send for a receive that the
// other has queued behind a send. On a communicator of one directed pair both ends have one order, the plan's.

#include <memory>
#include <string>
#include <vector>

#include "fpdist/comm/communicator.hpp"

namespace fpdist::comm {

class DirectedPairs final : public Communicator {
 public:
  /// Collective over `axis`, of two ranks or more. Messages to (rank + direction) and from (rank - direction) modulo
  /// the size go by pairs, all else by the axis itself. `direction`: 1 or -1.
  DirectedPairs(std::unique_ptr<Communicator> axis, int direction);

  int rank() const override { return axis_->rank(); }
  int size() const override { return axis_->size(); }
  const std::string& axis() const override { return axis_->axis(); }
  void group_begin() override;
  void send(const at::Tensor& tensor, int peer) override;
  void receive(at::Tensor& tensor, int peer) override;
  void group_end() override { group_start()->wait(); }
  std::unique_ptr<Work> group_start() override;
  void all_reduce(at::Tensor& tensor, ReduceOp op) override { axis_->all_reduce(tensor, op); }
  void all_gather_v(const at::Tensor& mine, at::Tensor& out, std::span<const int64_t> counts) override {
    axis_->all_gather_v(mine, out, counts);
  }
  void reduce_scatter_v(const at::Tensor& in, at::Tensor& mine, std::span<const int64_t> counts) override {
    axis_->reduce_scatter_v(in, mine, counts);
  }
  void all_to_all_v(const at::Tensor& in, std::span<const int64_t> in_counts, at::Tensor& out,
                    std::span<const int64_t> out_counts) override {
    axis_->all_to_all_v(in, in_counts, out, out_counts);
  }
  void broadcast(at::Tensor& tensor, int root) override { axis_->broadcast(tensor, root); }
  void barrier() override { axis_->barrier(); }
  Traffic traffic() const override;
  std::unique_ptr<Communicator> split(const std::string& axis, int color, int key) override {
    return axis_->split(axis, color, key);
  }
  void abort(const std::string& reason) noexcept override { axis_->abort(reason); }
  const CommOptions& options() const override { return axis_->options(); }
  const std::shared_ptr<Journal>& journal() const override { return axis_->journal(); }
  const std::vector<int>& members() const override { return axis_->members(); }

 private:
  int to_peer() const { return (rank() + direction_ + size()) % size(); }
  int from_peer() const { return (rank() - direction_ + size()) % size(); }

  std::unique_ptr<Communicator> axis_;
  int direction_;
  std::unique_ptr<Communicator> to_, from_;  ///< rank 0 of each sends
};

}  // namespace fpdist::comm
