// rms_norm on the GPU.
#include <ATen/core/Tensor.h>
#include <torch/library.h>

#include "kernels/rms_norm/rms_norm.hpp"
#include "kernels/rms_norm/rms_norm_composed.hpp"

namespace fpdist::kernels {
namespace {

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
  m.impl("rms_norm", fpdist::kernels::rms_norm_cuda);
  m.impl("rms_norm_backward", fpdist::kernels::rms_norm_backward_cuda);
}
