#pragma once
// comm, private: an axis whose neighbours talk on communicators of their own, one for each directed pair of a ring. A
// device's transport does what was begun on one communicator in that order, on one stream; with interleaved pipeline
// stages, where rows also go from the last rank to the first, two ranks may each wait in a send for a receive that the
// other has queued behind a send. On a communicator of one directed pair both ends have one order, the plan's. Each
// pair exchanges a first message when it is made: NCCL connects two ranks in their first call, where both hosts wait
// for each other, and two neighbours who begin with sends to each other would wait for ever.

#include <ATen/core/Tensor.h>

#include <array>
#include <memory>

#include "src/comm/forwarding_communicator.hpp"

namespace fpdist::comm {

class DirectedPairs final : public ForwardingCommunicator {
 public:
  /// Collective over `axis`, of two ranks or more. Messages to (rank + direction) and from (rank - direction) modulo
  /// the size go by pairs, all else by the axis itself. `direction`: 1 or -1. `where`: of the tensors that will travel.
  DirectedPairs(std::unique_ptr<Communicator> axis, int direction, at::Device where);

  void group_begin() override;
  void send(const at::Tensor& tensor, int peer) override;
  void receive(at::Tensor& tensor, int peer) override;
  void group_end() override { group_start()->wait(); }
  std::unique_ptr<Work> group_start() override;
  Traffic traffic() const override;

 private:
  int to_peer() const { return (rank() + direction_ + size()) % size(); }
  int from_peer() const { return (rank() - direction_ + size()) % size(); }
  std::array<Communicator*, 3> all() const { return {&inner(), to_.get(), from_.get()}; }
  Traffic sum_of_parts() const;
  int direction_;
  std::unique_ptr<Communicator> to_, from_;  ///< rank 0 of each sends
  Traffic before_;                           ///< what connecting took
};

}  // namespace fpdist::comm
