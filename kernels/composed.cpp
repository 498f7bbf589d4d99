#include "kernels/composed.hpp"

#include <ATen/ATen.h>

#include <optional>

#include "kernels/common/checks.hpp"
#include "kernels/linear/gemm_call.hpp"

namespace fpdist::kernels {
namespace {

at::Tensor wide(const at::Tensor& x) { return x.to(accumulate_dtype_of(x.scalar_type())); }

/// 1 / rms of each row [T,1] in the accumulation dtype.
at::Tensor inverse_rms(const at::Tensor& wide_x, double eps) {
  return wide_x.square().mean({1}, /*keepdim=*/true).add_(eps).rsqrt_();
}

}  // namespace

at::Tensor composed_linear(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                           const at::Tensor& residual) {
  at::Tensor y = residual.to(accumulate_dtype_of(x.scalar_type()), /*non_blocking=*/false, /*copy=*/true,
                             at::MemoryFormat::Contiguous);
  if (bias) y.add_(*bias);
  aten_product(x, false, weight, true, y, /*accumulates=*/true);
  return y.to(x.scalar_type());
}

at::Tensor composed_rotary(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool inverse) {
  const int64_t half = x.size(2) / 2;
  const at::Tensor a = wide(x.narrow(2, 0, half)), b = wide(x.narrow(2, half, half));
  const at::Tensor c = cos.unsqueeze(1), s = (inverse ? sin.neg() : sin).unsqueeze(1);
  return at::cat({a * c - b * s, b * c + a * s}, 2).to(x.scalar_type());
}

at::Tensor composed_swiglu(const at::Tensor& gate, const at::Tensor& up) {
  return at::silu(wide(gate)).mul_(wide(up)).to(gate.scalar_type());
}

std::tuple<at::Tensor, at::Tensor> composed_swiglu_backward(const at::Tensor& grad_out, const at::Tensor& gate,
                                                            const at::Tensor& up) {
  const at::Tensor g = wide(gate), dy = grad_out.to(g.scalar_type()), s = at::sigmoid(g), silu = g * s;
  const at::Tensor d_gate = at::addcmul(s, silu, 1 - s).mul_(dy).mul_(wide(up));
  return {d_gate.to(gate.scalar_type()), (dy * silu).to(gate.scalar_type())};
}

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
