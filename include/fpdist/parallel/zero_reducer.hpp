#pragma once
// parallel: ZeRO-1 over one axis: gradients are reduce-scattered, each rank owns an equal contiguous shard of the flat
// parameters, updated values are gathered. All sums in ascending rank order.

#include <ATen/core/Tensor.h>

#include "fpdist/comm/communicator.hpp"
#include "fpdist/ops/parameter.hpp"

namespace fpdist::parallel {

class ZeroReducer {
 public:
  /// Both must outlive the reducer. Not collective.
  ZeroReducer(ops::FlatParameters& parameters, comm::Communicator& axis);
  int64_t shard_begin() const { return begin_; }   ///< in elements of the flat buffers
  int64_t shard_end() const { return end_; }
  /// Collective on the axis. Sums the main grads over ranks; the own shard of the sum (a view of the main-grad buffer).
  at::Tensor reduce_gradients();
  /// Collective on the axis. Every rank's shard of the flat value buffer travels to all ranks.
  void gather_values();

 private:
  ops::FlatParameters& parameters_;
  comm::Communicator& axis_;
  std::vector<int64_t> counts_;
  int64_t begin_, end_;
};

}  // namespace fpdist::parallel
