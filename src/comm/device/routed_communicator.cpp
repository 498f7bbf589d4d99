#include "src/comm/device/routed_communicator.hpp"

#include <utility>

#include "fpdist/core/error.hpp"
#include "src/comm/work.hpp"

namespace fpdist::comm {

RoutedCommunicator::RoutedCommunicator(std::shared_ptr<Communicator> host, DeviceSideFactory make_side,
                                       at::DeviceType device)
    : ForwardingCommunicator(std::move(host)),
      make_side_(std::move(make_side)),
      device_(device),
      side_(make_side_(inner())),
      before_(inner().traffic()) {}

bool RoutedCommunicator::is_routed(const at::Tensor& tensor) const {
  return tensor.defined() && (device_ == at::kCPU || tensor.device().type() == device_);
}

void RoutedCommunicator::check_one(const Here& here, const at::Tensor& tensor, const char* what) const {
  check_tensor(here, tensor, what);
  check(tensor.device().is_cpu() || is_routed(tensor), here, ": ", what, " is on ", tensor.device(),
        "; this communicator carries tensors of the CPU and of ", at::Device(device_));
}

bool RoutedCommunicator::begins_on_device(std::initializer_list<at::Tensor> tensors) const {
  check<CommError>(!builder_.is_open(), here(), ": called between group_begin and group_end");
  side_->check_health();
  bool is_any_routed = false;
  for (const at::Tensor& tensor : tensors) is_any_routed = is_any_routed || is_routed(tensor);
  if (!is_any_routed) return false;
  for (const at::Tensor& tensor : tensors) {
    check_one(here(), tensor, "a tensor of a collective");
    check(tensor.device() == tensors.begin()->device(), here(), ": the tensors of a collective are on ",
          tensors.begin()->device(), " and ", tensor.device());
  }
  return true;
}

void RoutedCommunicator::group_begin() { builder_.begin(here()); }

void RoutedCommunicator::send(const at::Tensor& tensor, int peer) {
  builder_.send(here(), tensor, peer, size(), [this](auto&&... of) { check_one(of...); });
}

void RoutedCommunicator::receive(at::Tensor& tensor, int peer) {
  builder_.receive(here(), tensor, peer, size(), [this](auto&&... of) { check_one(of...); });
}

void RoutedCommunicator::group_end() { group_start()->wait(); }

std::unique_ptr<Work> RoutedCommunicator::group_start() {
  const GroupMessages all = builder_.take(here());
  side_->check_health();
  GroupMessages on_host, on_device;
  for (const GroupMessage& message : all.sends)
    (is_routed(message.tensor) ? on_device : on_host).sends.push_back(message);
  for (const GroupMessage& message : all.receives)
    (is_routed(message.tensor) ? on_device : on_host).receives.push_back(message);
  const bool has_device = !on_device.sends.empty() || !on_device.receives.empty();
  const bool has_host = !on_host.sends.empty() || !on_host.receives.empty();
  if (!has_device) return start_group(inner(), on_host);
  if (!has_host) return side_->group(on_device);
  std::vector<std::unique_ptr<Work>> works;
  works.push_back(start_group(inner(), on_host));
  works.push_back(side_->group(on_device));
  return std::make_unique<AllWork>(std::move(works));
}

void RoutedCommunicator::all_reduce(at::Tensor& tensor, ReduceOp op) { start_all_reduce(tensor, op)->wait(); }

void RoutedCommunicator::all_gather_v(const at::Tensor& mine, at::Tensor& out, std::span<const int64_t> counts) {
  start_all_gather_v(mine, out, counts)->wait();
}

void RoutedCommunicator::reduce_scatter_v(const at::Tensor& in, at::Tensor& mine, std::span<const int64_t> counts) {
  start_reduce_scatter_v(in, mine, counts)->wait();
}

void RoutedCommunicator::all_to_all_v(const at::Tensor& in, std::span<const int64_t> in_counts, at::Tensor& out,
                                      std::span<const int64_t> out_counts) {
  start_all_to_all_v(in, in_counts, out, out_counts)->wait();
}

std::unique_ptr<Work> RoutedCommunicator::start_all_reduce(at::Tensor& tensor, ReduceOp op) {
  if (!begins_on_device({tensor})) return inner().start_all_reduce(tensor, op);
  return side_->all_reduce(tensor, op);
}

std::unique_ptr<Work> RoutedCommunicator::start_all_gather_v(const at::Tensor& mine, at::Tensor& out,
                                                             std::span<const int64_t> counts) {
  if (!begins_on_device({mine, out})) return inner().start_all_gather_v(mine, out, counts);
  check_gather(here(), mine, out, counts, size());
  return side_->all_gather_v(mine, out, counts);
}

std::unique_ptr<Work> RoutedCommunicator::start_reduce_scatter_v(const at::Tensor& in, at::Tensor& mine,
                                                                 std::span<const int64_t> counts) {
  if (!begins_on_device({in, mine})) return inner().start_reduce_scatter_v(in, mine, counts);
  check_scatter(here(), in, mine, counts, size());
  return side_->reduce_scatter_v(in, mine, counts);
}

std::unique_ptr<Work> RoutedCommunicator::start_all_to_all_v(const at::Tensor& in, std::span<const int64_t> in_counts,
                                                             at::Tensor& out, std::span<const int64_t> out_counts) {
  if (!begins_on_device({in, out})) return inner().start_all_to_all_v(in, in_counts, out, out_counts);
  check_exchange(here(), in, in_counts, out, out_counts, size());
  return side_->all_to_all_v(in, in_counts, out, out_counts);
}

void RoutedCommunicator::broadcast(at::Tensor& tensor, int root) {
  if (!begins_on_device({tensor})) return inner().broadcast(tensor, root);
  check_root(here(), root, size());
  side_->broadcast(tensor, root)->wait();
}

void RoutedCommunicator::barrier() {
  begins_on_device({});
  inner().barrier();
}

void RoutedCommunicator::keep_buffer(const at::Tensor& buffer) {
  if (is_routed(buffer)) side_->keep_buffer(buffer);
}

Traffic RoutedCommunicator::traffic() const {
  const Traffic host = inner().traffic(), device = side_->traffic();
  return {.bytes = host.bytes - before_.bytes + device.bytes,
          .messages = host.messages - before_.messages + device.messages};
}

std::unique_ptr<Communicator> RoutedCommunicator::split(const std::string& axis, int color, int key) {
  begins_on_device({});
  return std::make_unique<RoutedCommunicator>(inner().split(axis, color, key), make_side_, device_);
}

void RoutedCommunicator::abort(const std::string& reason) noexcept {
  side_->abort(reason);
  inner().abort(reason);
}

}  // namespace fpdist::comm
