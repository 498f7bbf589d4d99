#pragma once
// Tests: how far tensors are apart.

#include <ATen/ATen.h>

#include <algorithm>

namespace fpdist::test {

/// max |a - b| / max(least, max |b|), 0 where both are empty or zero.
inline double relative_error(const at::Tensor& a, const at::Tensor& b, double least = 1.0) {
  if (b.numel() == 0) return a.numel() == 0 ? 0.0 : 1.0;
  const at::Tensor x = a.detach().to(at::kDouble), y = b.detach().to(at::kDouble);
  const double apart = (x - y).abs().max().item<double>();
  return apart == 0 ? 0.0 : apart / std::max(least, y.abs().max().item<double>());
}

}  // namespace fpdist::test
