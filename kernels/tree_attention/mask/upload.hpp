#pragma once
// tree_attention on a GPU: what the host laid out, on the device, without waiting for it.

#include <ATen/ATen.h>

#include <vector>

namespace fpdist::kernels {

template <typename T>
at::Tensor upload(const std::vector<T>& values, at::ScalarType dtype, at::Device device) {
  const at::Tensor host = at::from_blob(const_cast<T*>(values.data()), {static_cast<int64_t>(values.size())}, dtype);
  if (!device.is_cuda()) return host.to(device, /*non_blocking=*/false, /*copy=*/true);
  // Torch's pinned allocator keeps the memory until the copy is done.
  return host.pin_memory().to(device, /*non_blocking=*/true);
}

}  // namespace fpdist::kernels
