// selected_logprob on the GPU: chunks of logits from cuBLASLt (bfloat16 in, float32 logits, float32 dW), each reduced
// by one kernel, or turned into its gradient in place by one; ATen's operations for float64.
#include <ATen/ATen.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "kernels/common/checks.hpp"
#include "kernels/cuda/tensors.hpp"
#include "kernels/linear/cublaslt.hpp"
#include "kernels/selected_logprob/chunked_logprob.hpp"
#include "kernels/selected_logprob/cuda/selected_logprob_kernel.hpp"
#include "kernels/selected_logprob/selected_logprob.hpp"

namespace fpdist::kernels {
namespace {

LogprobRows rows_of(const at::Tensor& logits, const at::Tensor& row, const at::Tensor& target, int64_t first_row,
                    double temperature) {
  check(logits.scalar_type() == at::kFloat && logits.stride(1) == 1 &&
            fits_vectors(logits.const_data_ptr(), logits.size(0) == 1 ? 0 : logits.stride(0), Element::kFloat32),
        "logits of ", logits.scalar_type(), " at strides ", logits.strides(),
        ": the kernels take float32 in rows of whole 16 bytes");
  return {.first_row = first_row,
          .rows = logits.size(0),
          .vocabulary = logits.size(1),
          .stride = logits.stride(0),
          .score_row = row.const_data_ptr<int64_t>(),
          .target = target.const_data_ptr<int64_t>(),
          .scores = row.size(0),
          .factor = static_cast<float>(1 / temperature)};
}

void statistics_cuda(const at::Tensor& logits, const at::Tensor& row, const at::Tensor& target, int64_t first_row,
                     double temperature, at::Tensor& logit, at::Tensor& lse, at::Tensor& entropy, at::Tensor& best,
                     at::Tensor& argmax, bool is_relative) {
  const c10::cuda::CUDAGuard guard(logits.device());
  const LogprobArguments arguments{.at = rows_of(logits, row, target, first_row, temperature),
                                   .logits = logits.const_data_ptr<float>(),
                                   .logit = logit.mutable_data_ptr<float>(),
                                   .lse = lse.mutable_data_ptr<float>(),
                                   .entropy = entropy.mutable_data_ptr<float>(),
                                   .best = best.mutable_data_ptr<float>(),
                                   .argmax = argmax.mutable_data_ptr<int64_t>(),
                                   .is_relative = is_relative};
  C10_CUDA_CHECK(launch_selected_logprob(arguments, c10::cuda::getCurrentCUDAStream()));
}

void gradient_cuda(at::Tensor& logits, const at::Tensor& row, const at::Tensor& target, int64_t first_row,
                   double temperature, const std::optional<at::Tensor>& grad_logp,
                   const std::optional<at::Tensor>& grad_entropy, const at::Tensor& lse, const at::Tensor& entropy,
                   at::ScalarType dtype) {
  check(has_kernel(dtype), "logit_gradient: a gradient in ", dtype, ": the kernel writes float32 and bfloat16");
  const c10::cuda::CUDAGuard guard(logits.device());
  const LogprobBackwardArguments arguments{
      .at = rows_of(logits, row, target, first_row, temperature),
      .logits = logits.mutable_data_ptr<float>(),
      .grad_logp = grad_logp ? grad_logp->const_data_ptr<float>() : nullptr,
      .grad_entropy = grad_entropy ? grad_entropy->const_data_ptr<float>() : nullptr,
      .lse = lse.const_data_ptr<float>(),
      .entropy = entropy.const_data_ptr<float>()};
  const Element element = dtype == at::kBFloat16 ? Element::kBFloat16 : Element::kFloat32;
  C10_CUDA_CHECK(launch_selected_logprob_backward(arguments, element, c10::cuda::getCurrentCUDAStream()));
}

ChunkWork work_on(const at::Tensor& hidden) {
  if (!has_kernel(hidden.scalar_type())) return {.product = cublaslt_product};
  return {.product = cublaslt_product, .statistics = logit_statistics, .gradient = logit_gradient};
}

ChunkedLogprob forward(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& score_row,
                       const at::Tensor& target, double temperature, bool is_relative) {
  check_selected_logprob(hidden, weight, score_row, target, temperature);
  const LogitScores scores{.row = score_row.contiguous(), .target = target.contiguous(), .temperature = temperature};
  return chunked_logprob(hidden, weight, scores, is_relative, work_on(hidden));
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> partial_cuda(const at::Tensor& hidden,
                                                                                    const at::Tensor& weight,
                                                                                    const at::Tensor& score_row,
                                                                                    const at::Tensor& target,
                                                                                    double temperature) {
  const LogitResults made = forward(hidden, weight, score_row, target, temperature, /*is_relative=*/false).results;
  return {made.logit, made.lse, made.entropy, made.best, made.argmax};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> forward_cuda(const at::Tensor& hidden,
                                                                        const at::Tensor& weight,
                                                                        const at::Tensor& score_row,
                                                                        const at::Tensor& target, double temperature,
                                                                        const std::optional<at::Tensor>&) {
  const LogitResults made = forward(hidden, weight, score_row, target, temperature, /*is_relative=*/true).results;
  return {made.logit, made.entropy, made.argmax, made.lse};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> keeping_cuda(
    const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& score_row, const at::Tensor& target,
    double temperature, bool is_relative) {
  const auto [made, memory] = forward(hidden, weight, score_row, target, temperature, is_relative);
  const bool is_there = memory.defined() && has_kernel(hidden.scalar_type());  // ATen's operations use them up
  const at::Tensor logits = is_there ? memory : at::empty({0}, made.lse.options());
  return {made.logit, made.lse, made.entropy, made.best, made.argmax, logits};
}

at::Tensor backward_cuda(const std::optional<at::Tensor>& grad_logp, const std::optional<at::Tensor>& grad_entropy,
                         const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& score_row,
                         const at::Tensor& target, const at::Tensor& lse, const at::Tensor& entropy, double temperature,
                         const std::optional<at::Tensor>& grad_weight, bool accumulates,
                         const std::optional<at::Tensor>& logits) {
  check_selected_logprob(hidden, weight, score_row, target, temperature);
  check_main_grad(grad_weight, weight);
  const auto dense = [](const std::optional<at::Tensor>& x) { return x ? std::optional(x->contiguous()) : x; };
  const LogitScores scores{.row = score_row.contiguous(), .target = target.contiguous(), .temperature = temperature};
  const LogitGradients of{.logp = dense(grad_logp),
                          .entropy = dense(grad_entropy),
                          .lse = lse.contiguous(),
                          .row_entropy = entropy.contiguous()};
  return chunked_logprob_backward(of, hidden, weight, scores, grad_weight, accumulates, work_on(hidden), logits);
}

}  // namespace
}  // namespace fpdist::kernels

TORCH_LIBRARY_FRAGMENT(fpdist, m) {
  m.def(
      "logit_statistics(Tensor logits, Tensor row, Tensor target, int first_row, float temperature, Tensor(a!) logit,"
      " Tensor(b!) lse, Tensor(c!) entropy, Tensor(d!) best, Tensor(e!) argmax, bool is_relative) -> ()");
  m.def(
      "logit_gradient(Tensor(a!) logits, Tensor row, Tensor target, int first_row, float temperature,"
      " Tensor? grad_logp, Tensor? grad_entropy, Tensor lse, Tensor entropy, ScalarType dtype) -> ()");
}

TORCH_LIBRARY_IMPL(fpdist, CUDA, m) {
  m.impl("partial_logprob", fpdist::kernels::partial_cuda);
  m.impl("selected_logprob", fpdist::kernels::forward_cuda);
  m.impl("selected_logprob_backward", fpdist::kernels::backward_cuda);
  m.impl("keeping_logprob", fpdist::kernels::keeping_cuda);
  m.impl("logit_statistics", fpdist::kernels::statistics_cuda);
  m.impl("logit_gradient", fpdist::kernels::gradient_cuda);
}
