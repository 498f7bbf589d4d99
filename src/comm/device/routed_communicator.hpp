#pragma once
// comm, private: a communicator that sends CPU tensors as its host communicator does and device tensors by a
// DeviceSide.

#include <memory>
#include <string>
#include <vector>

#include "src/comm/arguments.hpp"
#include "src/comm/device/device_side.hpp"
#include "src/comm/forwarding_communicator.hpp"

namespace fpdist::comm {

class RoutedCommunicator final : public ForwardingCommunicator {
 public:
  /// Collective over `host`. `device`: whose tensors go by the side; kCPU: all tensors do (tests).
  RoutedCommunicator(std::shared_ptr<Communicator> host, DeviceSideFactory make_side, at::DeviceType device);

  void group_begin() override;
  void send(const at::Tensor& tensor, int peer) override;
  void receive(at::Tensor& tensor, int peer) override;
  void group_end() override;
  std::unique_ptr<Work> group_start() override;
  void all_reduce(at::Tensor& tensor, ReduceOp op) override;
  void all_gather_v(const at::Tensor& mine, at::Tensor& out, std::span<const int64_t> counts) override;
  void reduce_scatter_v(const at::Tensor& in, at::Tensor& mine, std::span<const int64_t> counts) override;
  void all_to_all_v(const at::Tensor& in, std::span<const int64_t> in_counts, at::Tensor& out,
                    std::span<const int64_t> out_counts) override;
  void broadcast(at::Tensor& tensor, int root) override;
  void barrier() override;
  std::unique_ptr<Work> start_all_reduce(at::Tensor& tensor, ReduceOp op) override;
  std::unique_ptr<Work> start_all_gather_v(const at::Tensor& mine, at::Tensor& out,
                                           std::span<const int64_t> counts) override;
  std::unique_ptr<Work> start_reduce_scatter_v(const at::Tensor& in, at::Tensor& mine,
                                               std::span<const int64_t> counts) override;
  std::unique_ptr<Work> start_all_to_all_v(const at::Tensor& in, std::span<const int64_t> in_counts, at::Tensor& out,
                                           std::span<const int64_t> out_counts) override;
  void keep_buffer(const at::Tensor& buffer) override;
  Traffic traffic() const override;
  std::unique_ptr<Communicator> split(const std::string& axis, int color, int key) override;
  void abort(const std::string& reason) noexcept override;

 private:
  Here here() const { return {axis(), rank(), *journal()}; }
  bool is_routed(const at::Tensor& tensor) const;
  /// Whether the call goes to the side; throws when the tensors are in different places or a group is open.
  bool begins_on_device(std::initializer_list<at::Tensor> tensors) const;
  void check_one(const Here& here, const at::Tensor& tensor, const char* what) const;

  DeviceSideFactory make_side_;
  at::DeviceType device_;
  std::unique_ptr<DeviceSide> side_;
  Traffic before_;  ///< what making the side took, which is no traffic of the caller's
  GroupBuilder builder_;
};

}  // namespace fpdist::comm
