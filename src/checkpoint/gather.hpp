#pragma once
// checkpoint: whole tensors on rank 0 from the slices that ranks hold, one tensor in memory at a time.

#include <ATen/core/Tensor.h>

#include <compare>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "fpdist/checkpoint/safetensors.hpp"
#include "fpdist/comm/communicator.hpp"
#include "fpdist/comm/device.hpp"

namespace fpdist::checkpoint {

/// Indices [begin, begin + value.size(dim)) of dim `dim` of the whole tensor `name`.
struct TensorSlice {
  std::string name;
  int64_t dim = 0, begin = 0;
  at::Tensor value;
};

/// Collective: rank 0 calls fetch for 0, 1, ... in turn while the others are in give_all.
class Gatherer {
 public:
  /// Collective over `world`. `whole`: the tensors there are, the same on every rank; `own`: what this rank brings of
  /// them, at most one slice of each, with values of its dtype on `device` or the host. Every element is brought by
  /// exactly one rank.
  Gatherer(std::vector<TensorSpec> whole, std::vector<TensorSlice> own, comm::Communicator& world,
           comm::Device& device);
  const std::vector<TensorSpec>& whole() const { return whole_; }
  /// The other ranks: sends all that this one brings.
  void give_all();
  /// Rank 0: whole()[tensor], on the host.
  at::Tensor fetch(size_t tensor);

 private:
  /// A slice of a tensor and the rank that brings it.
  struct PlacedSlice {
    int64_t tensor, rank, dim, begin, extent;
    auto operator<=>(const PlacedSlice&) const = default;
  };
  at::Tensor on_host(const TensorSlice& slice) const;

  comm::Communicator& world_;
  comm::Device& device_;
  std::vector<TensorSpec> whole_;
  std::vector<TensorSlice> own_;     // by their places in whole_
  std::vector<PlacedSlice> slices_;  // of all ranks, ascending
};

}  // namespace fpdist::checkpoint
