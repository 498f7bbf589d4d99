// tree_attention on the GPU: the calls laid out anew every time. Who calls more than once with the same rows lays them
// out itself (ops::prepare_attention) and goes round these.
#include <ATen/ATen.h>
#include <ATen/cuda/CUDAContext.h>
#include <torch/library.h>

#include "kernels/tree_attention/library/run_calls.hpp"
#include "kernels/tree_attention/schema.hpp"
#include "kernels/tree_attention/tree_attention.hpp"

namespace fpdist::kernels {
namespace {

int64_t compute_capability(int64_t device) {
  const cudaDeviceProp* properties = at::cuda::getDeviceProperties(static_cast<c10::DeviceIndex>(device));
  return 10 * properties->major + properties->minor;
}

AttentionCalls calls_for(const at::Tensor& q, const AttentionMask& mask) {
  return {mask, q.device(), compute_capability(q.device().index())};
}

AttentionOutput forward_cuda(const AttentionInputs& in, const AttentionMask& mask, const AttentionOptions& options) {
  check_tree_attention(in, mask);
  return run_calls(in, calls_for(in.q, mask), options);
}

AttentionGradients backward_cuda(const at::Tensor& grad_out, const AttentionInputs& in, const AttentionOutput& merged,
                                 const AttentionMask& mask, const AttentionOptions& options) {
  check_tree_attention(in, mask);
  return run_calls_backward(grad_out, in, merged, calls_for(in.q, mask), options);
}

}  // namespace
}  // namespace fpdist::kernels

TORCH_LIBRARY_FRAGMENT(fpdist, m) {
  m.def("compute_capability(int device) -> int", fpdist::kernels::compute_capability);
}
TORCH_LIBRARY_IMPL(fpdist, CUDA, m) {
  m.impl("tree_attention", fpdist::kernels::flat_forward<fpdist::kernels::forward_cuda>);
  m.impl("tree_attention_backward", fpdist::kernels::flat_backward<fpdist::kernels::backward_cuda>);
}
