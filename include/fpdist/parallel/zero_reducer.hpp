#pragma once
// parallel: ZeRO-1 over one axis: gradients are reduce-scattered, each rank owns an equal contiguous shard of the flat
// parameters (shards differ by at most one element, nothing is padded), updated values are gathered. All sums in
// ascending rank order. On an axis of one rank both calls do nothing.
// Source: Rajbhandari et al., "ZeRO: memory optimizations toward training trillion parameter models" (SC 2020).

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "fpdist/comm/communicator.hpp"
#include "fpdist/ops/parameter.hpp"

namespace fpdist::parallel {

class ZeroReducer {
 public:
  /// Both must outlive the reducer. Not collective.
  ZeroReducer(ops::FlatParameters& parameters, comm::Communicator& axis);
  int64_t shard_begin() const { return begin_; }  ///< in elements of the flat buffers
  int64_t shard_end() const { return end_; }
  /// Collective on the axis. Sums the main grads over ranks; returns the own shard of the sum, a view
  /// [shard_end - shard_begin] of the main-grad buffer, whose other elements keep this rank's own gradients.
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
