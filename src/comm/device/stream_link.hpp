#pragma once
// comm, private: StreamLink, the operations that a device's own transport (NCCL) has, in stream order. Each is queued
// behind what the current stream holds and runs on a stream of the link; wait() makes the current stream wait for it.
// The operations of a link run one after the other, in the order in which they were called.

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>

#include "fpdist/comm/communicator.hpp"
#include "src/comm/arguments.hpp"
#include "src/comm/journal.hpp"

namespace fpdist::comm {

class StreamLink {
 public:
  virtual ~StreamLink() = default;
  /// The messages of a group, none of them empty or to the own rank. All of them move at once.
  virtual std::unique_ptr<Work> group(const GroupMessages& messages, const Place& place) = 0;
  virtual std::unique_ptr<Work> all_reduce(const at::Tensor& tensor, ReduceOp op, const Place& place) = 0;
  /// `out` from equal parts in rank order; `mine` may be its slot.
  virtual std::unique_ptr<Work> all_gather(const at::Tensor& mine, const at::Tensor& out, const Place& place) = 0;
  virtual std::unique_ptr<Work> reduce_scatter(const at::Tensor& in, const at::Tensor& mine, const Place& place) = 0;
  virtual std::unique_ptr<Work> broadcast(const at::Tensor& tensor, int root, const Place& place) = 0;
  virtual void keep_buffer(const at::Tensor&) {}
  /// Throws CommError when an operation of any link of the job has failed.
  virtual void check_health() const {}
  virtual void abort(const std::string&) noexcept {}
};

}  // namespace fpdist::comm
