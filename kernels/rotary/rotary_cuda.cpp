// rotary on the GPU.
#include <ATen/core/Tensor.h>
#include <torch/library.h>

#include "kernels/rotary/rotary.hpp"
#include "kernels/rotary/rotary_composed.hpp"

namespace fpdist::kernels {
namespace {

at::Tensor rotary_cuda(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool inverse) {
  check_rotary(x, cos, sin);
  return composed_rotary(x, cos, sin, inverse);
}

}  // namespace
}  // namespace fpdist::kernels

TORCH_LIBRARY_IMPL(fpdist, CUDA, m) { m.impl("rotary", fpdist::kernels::rotary_cuda); }
