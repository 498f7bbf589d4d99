// rotary, swiglu and rms_norm on the GPU.
#include <ATen/core/Tensor.h>
#include <torch/library.h>

#include "kernels/composed.hpp"
#include "kernels/rms_norm/rms_norm.hpp"
#include "kernels/rotary/rotary.hpp"
#include "kernels/swiglu/swiglu.hpp"

namespace fpdist::kernels {
namespace {

at::Tensor rotary_cuda(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool inverse) {
  check_rotary(x, cos, sin);
  return composed_rotary(x, cos, sin, inverse);
}

at::Tensor swiglu_cuda(const at::Tensor& gate, const at::Tensor& up) {
  check_swiglu(gate, up);
  return composed_swiglu(gate, up);
}

std::tuple<at::Tensor, at::Tensor> swiglu_backward_cuda(const at::Tensor& grad_out, const at::Tensor& gate,
                                                        const at::Tensor& up) {
  check_swiglu_backward(grad_out, gate, up);
  return composed_swiglu_backward(grad_out, gate, up);
}

at::Tensor rms_norm_cuda(const at::Tensor& x, const at::Tensor& weight, double eps, const std::optional<at::Tensor>&) {
  check_rms_norm(x, weight);
  return composed_rms_norm(x, weight, eps);
}

std::tuple<at::Tensor, at::Tensor> rms_norm_backward_cuda(const at::Tensor& grad_out, const at::Tensor& x,
                                                          const at::Tensor& weight, double eps) {
  check_rms_norm_backward(grad_out, x, weight);
  return composed_rms_norm_backward(grad_out, x, weight, eps);
}

}  // namespace
}  // namespace fpdist::kernels

TORCH_LIBRARY_IMPL(fpdist, CUDA, m) {
  m.impl("rotary", fpdist::kernels::rotary_cuda);
  m.impl("swiglu", fpdist::kernels::swiglu_cuda);
  m.impl("swiglu_backward", fpdist::kernels::swiglu_backward_cuda);
  m.impl("rms_norm", fpdist::kernels::rms_norm_cuda);
  m.impl("rms_norm_backward", fpdist::kernels::rms_norm_backward_cuda);
}
