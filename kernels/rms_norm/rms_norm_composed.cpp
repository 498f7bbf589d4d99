#include "kernels/rms_norm/rms_norm_composed.hpp"

#include <ATen/ATen.h>

#include <optional>

#include "kernels/common/wide.hpp"

namespace fpdist::kernels {
namespace {

/// 1 / rms of each row [T,1] in the accumulation dtype.
at::Tensor inverse_rms(const at::Tensor& wide_x, double eps) {
  return wide_x.square().mean({1}, /*keepdim=*/true).add_(eps).rsqrt_();
}

}  // namespace

at::Tensor composed_rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  // Without its weight the fused operator rounds where Transformers does; the product then rounds once more.
  return std::get<0>(at::_fused_rms_norm(x.contiguous(), {x.size(1)}, std::nullopt, eps)).mul(weight);
}

std::tuple<at::Tensor, at::Tensor> composed_rms_norm_backward(const at::Tensor& grad_out, const at::Tensor& x,
                                                              const at::Tensor& weight, double eps) {
  const at::Tensor in = wide(x), scale = inverse_rms(in, eps), grad = wide(grad_out), scaled = grad * wide(weight);
  const at::Tensor normed = (in * scale).to(x.scalar_type());
  const at::Tensor pull = (scaled * in).sum(1, /*keepdim=*/true) * scale.pow(3) / static_cast<double>(x.size(1));
  return {(scaled * scale - in * pull).to(x.scalar_type()), (grad * normed).sum(0)};
}

}  // namespace fpdist::kernels
