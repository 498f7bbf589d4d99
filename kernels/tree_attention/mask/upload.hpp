#pragma once
// tree_attention on a GPU: what the host laid out, on the device, without waiting for it.

#include <ATen/ATen.h>

#include <cstdint>
#include <span>
#include <vector>

namespace fpdist::kernels {

template <typename T>
at::Tensor upload(const std::vector<T>& values, at::ScalarType dtype, at::Device device) {
  const at::Tensor host = at::from_blob(const_cast<T*>(values.data()), {static_cast<int64_t>(values.size())}, dtype);
  if (!device.is_cuda()) return host.to(device, /*non_blocking=*/false, /*copy=*/true);
  // Torch's pinned allocator keeps the memory until the copy is done.
  return host.pin_memory().to(device, /*non_blocking=*/true);
}

/// int32 arrays side by side, to go up at once.
class UploadArena {
 public:
  void add(std::span<const int32_t> part) {
    begin_.push_back(static_cast<int64_t>(values_.size())), count_.push_back(static_cast<int64_t>(part.size()));
    values_.insert(values_.end(), part.begin(), part.end());
    values_.resize((values_.size() + kAligned - 1) / kAligned * kAligned);
  }
  /// In the order in which they were added, parts of one tensor.
  std::vector<at::Tensor> on(at::Device device) const {
    const at::Tensor whole = upload(values_, at::kInt, device);
    std::vector<at::Tensor> parts;
    for (size_t i = 0; i < begin_.size(); ++i) parts.push_back(whole.narrow(0, begin_[i], count_[i]));
    return parts;
  }

 private:
  static constexpr size_t kAligned = 16;  // every part begins where 64 bytes do, for the kernels' 16-byte loads
  std::vector<int32_t> values_;
  std::vector<int64_t> begin_, count_;
};

}  // namespace fpdist::kernels
