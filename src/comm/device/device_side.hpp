#pragma once
// comm, private: DeviceSide, how the device tensors of one communicator travel. Arguments are checked by who calls it;
// every call returns when its work is queued, and the current stream waits for the result at Work::wait.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "fpdist/comm/communicator.hpp"
#include "src/comm/arguments.hpp"

namespace fpdist::comm {

class DeviceSide {
 public:
  using Counts = std::span<const int64_t>;
  virtual ~DeviceSide() = default;
  virtual std::unique_ptr<Work> group(const GroupMessages& messages) = 0;
  virtual std::unique_ptr<Work> all_reduce(const at::Tensor& tensor, ReduceOp op) = 0;
  virtual std::unique_ptr<Work> all_gather_v(const at::Tensor& mine, const at::Tensor& out, Counts counts) = 0;
  virtual std::unique_ptr<Work> reduce_scatter_v(const at::Tensor& in, const at::Tensor& mine, Counts counts) = 0;
  virtual std::unique_ptr<Work> all_to_all_v(const at::Tensor& in, Counts in_counts, const at::Tensor& out,
                                             Counts out_counts) = 0;
  virtual std::unique_ptr<Work> broadcast(const at::Tensor& tensor, int root) = 0;
  virtual void keep_buffer(const at::Tensor&) {}
  /// What this rank has sent past the host communicator.
  virtual Traffic traffic() const { return {}; }
  /// Throws CommError when something queued has failed.
  virtual void check_health() const {}
  virtual void abort(const std::string&) noexcept {}
};

/// Makes the side of a communicator over `host`, which outlives it. Collective over `host`.
using DeviceSideFactory = std::function<std::unique_ptr<DeviceSide>(Communicator& host)>;

/// A side that copies to the host, sends as the host communicator does, and copies back.
std::unique_ptr<DeviceSide> make_staged_side(Communicator& host);

}  // namespace fpdist::comm
