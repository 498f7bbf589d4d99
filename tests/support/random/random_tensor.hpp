#pragma once
// Tests: tensors whose values are drawn in float64, so that every dtype starts from the same numbers.

#include <ATen/ops/randn.h>

namespace fpdist::test {

inline at::Tensor random(at::IntArrayRef sizes, at::ScalarType dtype = at::kDouble) {
  return at::randn(sizes, at::kDouble).to(dtype);
}

inline at::Tensor wide(const at::Tensor& x) { return x.to(at::kDouble); }

}  // namespace fpdist::test
