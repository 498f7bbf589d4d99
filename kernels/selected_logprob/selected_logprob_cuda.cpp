// selected_logprob on the GPU: the chunks with cuBLASLt's products (bfloat16 in, float32 logits, float32 dW).
#include <ATen/ATen.h>
#include <torch/library.h>

#include "kernels/linear/cublaslt.hpp"
#include "kernels/selected_logprob/chunked_logprob.hpp"
#include "kernels/selected_logprob/selected_logprob.hpp"

namespace fpdist::kernels {
namespace {

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> partial_cuda(const at::Tensor& hidden,
                                                                                    const at::Tensor& weight,
                                                                                    const at::Tensor& score_row,
                                                                                    const at::Tensor& target,
                                                                                    double temperature) {
  check_selected_logprob(hidden, weight, score_row, target, temperature);
  return chunked_logprob(hidden, weight, score_row, target, temperature, cublaslt_product);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> forward_cuda(const at::Tensor& hidden,
                                                                        const at::Tensor& weight,
                                                                        const at::Tensor& score_row,
                                                                        const at::Tensor& target, double temperature,
                                                                        const std::optional<at::Tensor>&) {
  const auto [logit, lse, entropy, best, argmax] = partial_cuda(hidden, weight, score_row, target, temperature);
  return {logit - lse.index_select(0, score_row), entropy, argmax, lse};
}

at::Tensor backward_cuda(const std::optional<at::Tensor>& grad_logp, const std::optional<at::Tensor>& grad_entropy,
                         const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& score_row,
                         const at::Tensor& target, const at::Tensor& lse, const at::Tensor& entropy, double temperature,
                         const std::optional<at::Tensor>& grad_weight) {
  check_selected_logprob(hidden, weight, score_row, target, temperature);
  check_main_grad(grad_weight, weight);
  return chunked_logprob_backward(grad_logp, grad_entropy, hidden, weight, score_row, target, lse, entropy, temperature,
                                  grad_weight, cublaslt_product);
}

}  // namespace
}  // namespace fpdist::kernels

TORCH_LIBRARY_IMPL(fpdist, CUDA, m) {
  m.impl("partial_logprob", fpdist::kernels::partial_cuda);
  m.impl("selected_logprob", fpdist::kernels::forward_cuda);
  m.impl("selected_logprob_backward", fpdist::kernels::backward_cuda);
}
