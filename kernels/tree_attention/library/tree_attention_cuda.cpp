// tree_attention on the GPU: a plan for every call. Who calls more than once with the same rows makes the plan itself
// (ops::prepare_attention) and goes round these.
#include <ATen/ATen.h>
#include <ATen/cuda/CUDAContext.h>
#include <torch/library.h>

#include "kernels/tree_attention/library/planned_attention.hpp"
#include "kernels/tree_attention/tree_attention.hpp"

namespace fpdist::kernels {
namespace {

int64_t compute_capability(int64_t device) {
  const cudaDeviceProp* properties = at::cuda::getDeviceProperties(static_cast<c10::DeviceIndex>(device));
  return 10 * properties->major + properties->minor;
}

AttentionPlan plan_for(const at::Tensor& q, const at::Tensor& q_row, const at::Tensor& k_row, const at::Tensor& k_end) {
  return {q_row.contiguous(), k_row.contiguous(), k_end.contiguous(), q.device(),
          compute_capability(q.device().index())};
}

std::tuple<at::Tensor, at::Tensor> forward_cuda(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                const at::Tensor& q_row, const at::Tensor& k_row,
                                                const at::Tensor& k_end, double scale) {
  check_tree_attention(q, k, v, q_row, k_row, k_end);
  return planned_attention(q, k, v, plan_for(q, q_row, k_row, k_end), scale);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> backward_cuda(const at::Tensor& grad_out, const at::Tensor& q,
                                                             const at::Tensor& k, const at::Tensor& v,
                                                             const at::Tensor& out, const at::Tensor& lse,
                                                             const at::Tensor& q_row, const at::Tensor& k_row,
                                                             const at::Tensor& k_end, double scale) {
  check_tree_attention(q, k, v, q_row, k_row, k_end);
  return planned_attention_backward(grad_out, q, k, v, out, lse, plan_for(q, q_row, k_row, k_end), scale);
}

}  // namespace
}  // namespace fpdist::kernels

TORCH_LIBRARY_FRAGMENT(fpdist, m) {
  m.def("compute_capability(int device) -> int", fpdist::kernels::compute_capability);
}
TORCH_LIBRARY_IMPL(fpdist, CUDA, m) {
  m.impl("tree_attention", fpdist::kernels::forward_cuda);
  m.impl("tree_attention_backward", fpdist::kernels::backward_cuda);
}
