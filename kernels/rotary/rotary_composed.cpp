#include "kernels/rotary/rotary_composed.hpp"

#include <ATen/ATen.h>

#include "kernels/common/wide.hpp"

namespace fpdist::kernels {

at::Tensor composed_rotary(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool inverse) {
  const int64_t half = x.size(2) / 2;
  const at::Tensor a = wide(x.narrow(2, 0, half)), b = wide(x.narrow(2, half, half));
  const at::Tensor c = cos.unsqueeze(1), s = (inverse ? sin.neg() : sin).unsqueeze(1);
  return at::cat({a * c - b * s, b * c + a * s}, 2).to(x.scalar_type());
}

}  // namespace fpdist::kernels
