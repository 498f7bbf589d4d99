#pragma once
// parallel (private): index lists as tensors on the CPU.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace fpdist::parallel {

template <typename To, typename From>
at::Tensor to_tensor(const std::vector<From>& values, at::ScalarType dtype) {
  at::Tensor tensor = at::empty({static_cast<int64_t>(values.size())}, at::TensorOptions(dtype));
  std::copy(values.begin(), values.end(), tensor.mutable_data_ptr<To>());
  return tensor;
}
template <typename From>
at::Tensor int64s(const std::vector<From>& values) {
  return to_tensor<int64_t>(values, at::kLong);
}
inline at::Tensor int32s(const std::vector<int32_t>& values) { return to_tensor<int32_t>(values, at::kInt); }

}  // namespace fpdist::parallel
