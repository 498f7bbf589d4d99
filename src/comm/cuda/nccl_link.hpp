#pragma once
// comm, private: one NCCL communicator as a StreamLink.

#include <c10/cuda/CUDAStream.h>
#include <nccl.h>

#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "src/comm/cuda/nccl_context.hpp"
#include "src/comm/device/stream_link.hpp"

namespace fpdist::comm {

class NcclLink final : public StreamLink {
 public:
  /// Collective over `host`, which has at least two ranks: its first rank makes the id and tells the others.
  NcclLink(std::shared_ptr<NcclContext> context, Communicator& host, bool spans_hosts);
  ~NcclLink() override;

  std::unique_ptr<Work> group(const GroupMessages& messages, const Place& place) override;
  std::unique_ptr<Work> all_reduce(const at::Tensor& tensor, ReduceOp op, const Place& place) override;
  std::unique_ptr<Work> all_gather(const at::Tensor& mine, const at::Tensor& out, const Place& place) override;
  std::unique_ptr<Work> reduce_scatter(const at::Tensor& in, const at::Tensor& mine, const Place& place) override;
  std::unique_ptr<Work> broadcast(const at::Tensor& tensor, int root, const Place& place) override;
  /// For an axis that leaves its machine: inside one NCCL cannot use memory that is not its own allocator's, and would
  /// let the hosts meet in every call to find that out.
  void keep_buffer(const at::Tensor& buffer) override;
  void check_health() const override;
  void abort(const std::string& reason) noexcept override;

 private:
  class StreamWork;
  using Lock = std::unique_lock<std::mutex>;
  struct Kept {
    at::Tensor buffer;
    void* handle = nullptr;
  };
  void connect(Communicator& host);
  ncclUniqueId share_id(Communicator& host);
  /// `queue` makes its NCCL calls on the link's stream and returns the first result that is no success.
  std::unique_ptr<Work> issue(const Place& place, const std::vector<at::Tensor>& tensors,
                              const std::function<ncclResult_t()>& queue);
  /// Polls until NCCL has finished what it began; opens the lock between looks.
  void settle(Lock& lock, const std::string& place);
  void check_result(ncclResult_t result, const std::string& place);
  bool finalize() noexcept;

  std::shared_ptr<NcclContext> context_;
  const std::string axis_;
  const std::chrono::milliseconds timeout_;
  const std::shared_ptr<Journal> journal_;
  ncclComm_t comm_ = nullptr;
  c10::cuda::CUDAStream stream_;
  std::vector<Kept> kept_;
  const bool spans_hosts_;
  int exceptions_;
};

}  // namespace fpdist::comm
