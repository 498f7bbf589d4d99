// swiglu on the GPU.
#include <ATen/core/Tensor.h>
#include <torch/library.h>

#include "kernels/swiglu/swiglu.hpp"
#include "kernels/swiglu/swiglu_composed.hpp"

namespace fpdist::kernels {
namespace {

at::Tensor swiglu_cuda(const at::Tensor& gate, const at::Tensor& up) {
  check_swiglu(gate, up);
  return composed_swiglu(gate, up);
}

std::tuple<at::Tensor, at::Tensor> swiglu_backward_cuda(const at::Tensor& grad_out, const at::Tensor& gate,
                                                        const at::Tensor& up) {
  check_swiglu_backward(grad_out, gate, up);
  return composed_swiglu_backward(grad_out, gate, up);
}

}  // namespace
}  // namespace fpdist::kernels

TORCH_LIBRARY_IMPL(fpdist, CUDA, m) {
  m.impl("swiglu", fpdist::kernels::swiglu_cuda);
  m.impl("swiglu_backward", fpdist::kernels::swiglu_backward_cuda);
}
