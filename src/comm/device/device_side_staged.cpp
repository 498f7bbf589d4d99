// Device tensors by way of host memory. A copy from a device to pageable memory waits for the current stream, so what
// is sent is what was queued before.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include "src/comm/device/device_side.hpp"
#include "src/comm/work.hpp"

namespace fpdist::comm {
namespace {

at::Tensor host_like(const at::Tensor& tensor) {
  return at::empty(tensor.sizes(), tensor.options().device(at::kCPU).pinned_memory(false));
}

at::Tensor host_copy(const at::Tensor& tensor) { return host_like(tensor).copy_(tensor); }

class StagedSide final : public DeviceSide {
 public:
  explicit StagedSide(Communicator& host) : host_(host) {}

  std::unique_ptr<Work> group(const GroupMessages& messages) override {
    GroupMessages staged = messages;
    for (GroupMessage& message : staged.sends) message.tensor = host_copy(message.tensor);
    for (GroupMessage& message : staged.receives) message.tensor = host_like(message.tensor);
    return std::make_unique<ThenWork>(start_group(host_, staged), [into = messages.receives, from = staged.receives] {
      for (size_t i = 0; i < into.size(); ++i) into[i].tensor.copy_(from[i].tensor);
    });
  }

  std::unique_ptr<Work> all_reduce(const at::Tensor& tensor, ReduceOp op) override {
    at::Tensor staged = host_copy(tensor);
    host_.all_reduce(staged, op);
    tensor.copy_(staged);
    return done_work();
  }

  std::unique_ptr<Work> all_gather_v(const at::Tensor& mine, const at::Tensor& out, Counts counts) override {
    at::Tensor staged = host_like(out);
    host_.all_gather_v(host_copy(mine), staged, counts);
    out.copy_(staged);
    return done_work();
  }

  std::unique_ptr<Work> reduce_scatter_v(const at::Tensor& in, const at::Tensor& mine, Counts counts) override {
    at::Tensor staged = host_like(mine);
    host_.reduce_scatter_v(host_copy(in), staged, counts);
    mine.copy_(staged);
    return done_work();
  }

  std::unique_ptr<Work> all_to_all_v(const at::Tensor& in, Counts in_counts, const at::Tensor& out,
                                     Counts out_counts) override {
    at::Tensor staged = host_like(out);
    host_.all_to_all_v(host_copy(in), in_counts, staged, out_counts);
    out.copy_(staged);
    return done_work();
  }

  std::unique_ptr<Work> broadcast(const at::Tensor& tensor, int root) override {
    at::Tensor staged = host_copy(tensor);
    host_.broadcast(staged, root);
    tensor.copy_(staged);
    return done_work();
  }

 private:
  Communicator& host_;
};

}  // namespace

std::unique_ptr<DeviceSide> make_staged_side(Communicator& host) { return std::make_unique<StagedSide>(host); }

}  // namespace fpdist::comm
