// selected_logprob on the GPU: chunks of logits from cuBLASLt (bfloat16 in, float32 logits, float32 dW), each reduced
// by one kernel, or turned into its gradient in place by one; ATen's operations for float64.
#include <ATen/ATen.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <algorithm>

#include "kernels/cuda/tensors.hpp"
#include "kernels/linear/cublaslt.hpp"
#include "kernels/selected_logprob/chunked_logprob.hpp"
#include "kernels/selected_logprob/cuda/selected_logprob_kernel.hpp"
#include "kernels/selected_logprob/selected_logprob.hpp"

namespace fpdist::kernels {
namespace {

constexpr int64_t kAlignment = 8;  // elements: rows of 16 bytes in bfloat16 too, which cuBLASLt's fast kernels want

/// One chunk's logits at a time, in memory that all chunks share; then their gradient in the same place.
class Logits {
 public:
  Logits(const at::Tensor& hidden, const at::Tensor& weight)
      : hidden_(hidden),
        weight_(weight),
        step_(rows_of_chunk(hidden.size(0), weight.size(0), sizeof(float), kDeviceChunkBytes)),
        memory_(
            at::empty({std::min(step_, hidden.size(0)), (weight.size(0) + kAlignment - 1) / kAlignment * kAlignment},
                      hidden.options().dtype(at::kFloat))) {}

  /// visit(first row, rows, their hidden rows) for every chunk, its logits made.
  template <typename Visit>
  void for_chunks(Visit visit) {
    for (int64_t begin = 0; begin < hidden_.size(0); begin += step_) {
      const int64_t count = std::min(step_, hidden_.size(0) - begin);
      const at::Tensor rows = hidden_.narrow(0, begin, count);
      at::Tensor logits = memory_.narrow(0, 0, count).narrow(1, 0, weight_.size(0));
      cublaslt_product(rows, false, weight_, true, logits, /*accumulates=*/false);
      visit(begin, count, rows);
    }
  }
  float* data() { return memory_.mutable_data_ptr<float>(); }
  int64_t stride() const { return memory_.size(1); }
  /// The gradient's elements lie side by side from each row's begin.
  at::Tensor gradient(int64_t rows) const {
    return memory_.view(hidden_.scalar_type()).narrow(0, 0, rows).narrow(1, 0, weight_.size(0));
  }

 private:
  at::Tensor hidden_, weight_;
  int64_t step_;
  at::Tensor memory_;
};

LogprobRows rows_at(int64_t begin, int64_t rows, const Logits& logits, const at::Tensor& weight,
                    const at::Tensor& score_row, const at::Tensor& target, double temperature) {
  return {.first_row = begin,
          .rows = rows,
          .vocabulary = weight.size(0),
          .stride = logits.stride(),
          .score_row = score_row.const_data_ptr<int64_t>(),
          .target = target.const_data_ptr<int64_t>(),
          .scores = score_row.size(0),
          .factor = static_cast<float>(1 / temperature)};
}

using Partial = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

/// `is_relative`: log-probabilities in place of the logits.
Partial statistics(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& score_row,
                   const at::Tensor& target, double temperature, bool is_relative) {
  const c10::cuda::CUDAGuard guard(hidden.device());
  const at::TensorOptions options = hidden.options().dtype(at::kFloat);
  const int64_t rows = hidden.size(0);
  const at::Tensor row = score_row.contiguous(), token = target.contiguous();
  at::Tensor logit = at::empty({row.size(0)}, options), lse = at::empty({rows}, options);
  at::Tensor entropy = at::empty({rows}, options), best = at::empty({rows}, options);
  at::Tensor argmax = at::empty({rows}, options.dtype(at::kLong));
  Logits logits(hidden, weight);
  logits.for_chunks([&](int64_t begin, int64_t count, const at::Tensor&) {
    const LogprobArguments arguments{.at = rows_at(begin, count, logits, weight, row, token, temperature),
                                     .logits = logits.data(),
                                     .logit = logit.mutable_data_ptr<float>(),
                                     .lse = lse.mutable_data_ptr<float>(),
                                     .entropy = entropy.mutable_data_ptr<float>(),
                                     .best = best.mutable_data_ptr<float>(),
                                     .argmax = argmax.mutable_data_ptr<int64_t>(),
                                     .is_relative = is_relative};
    C10_CUDA_CHECK(launch_selected_logprob(arguments, c10::cuda::getCurrentCUDAStream()));
  });
  return {logit, lse, entropy, best, argmax};
}

/// Whether the kernels take it: a row without columns has no block to say so.
bool has_kernel_for(const at::Tensor& hidden, const at::Tensor& weight) {
  return has_kernel(hidden.scalar_type()) && weight.size(0) > 0;
}

Partial partial_cuda(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& score_row,
                     const at::Tensor& target, double temperature) {
  check_selected_logprob(hidden, weight, score_row, target, temperature);
  if (has_kernel_for(hidden, weight)) return statistics(hidden, weight, score_row, target, temperature, false);
  return chunked_logprob(hidden, weight, score_row, target, temperature, cublaslt_product);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> forward_cuda(const at::Tensor& hidden,
                                                                        const at::Tensor& weight,
                                                                        const at::Tensor& score_row,
                                                                        const at::Tensor& target, double temperature,
                                                                        const std::optional<at::Tensor>&) {
  if (has_kernel_for(hidden, weight)) {
    check_selected_logprob(hidden, weight, score_row, target, temperature);
    const auto [logp, lse, entropy, best, argmax] =
        statistics(hidden, weight, score_row, target, temperature, /*is_relative=*/true);
    return {logp, entropy, argmax, lse};
  }
  const auto [logit, lse, entropy, best, argmax] = partial_cuda(hidden, weight, score_row, target, temperature);
  return {logit - lse.index_select(0, score_row), entropy, argmax, lse};
}

at::Tensor backward_cuda(const std::optional<at::Tensor>& grad_logp, const std::optional<at::Tensor>& grad_entropy,
                         const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& score_row,
                         const at::Tensor& target, const at::Tensor& lse, const at::Tensor& entropy, double temperature,
                         const std::optional<at::Tensor>& grad_weight, bool accumulates) {
  check_selected_logprob(hidden, weight, score_row, target, temperature);
  check_main_grad(grad_weight, weight);
  if (!has_kernel_for(hidden, weight))
    return chunked_logprob_backward(grad_logp, grad_entropy, hidden, weight, score_row, target, lse, entropy,
                                    temperature, grad_weight, accumulates, cublaslt_product);
  const c10::cuda::CUDAGuard guard(hidden.device());
  const at::Tensor row = score_row.contiguous(), token = target.contiguous();
  const at::Tensor of_scores = grad_logp ? grad_logp->contiguous() : at::Tensor();
  const at::Tensor of_rows = grad_entropy ? grad_entropy->contiguous() : at::Tensor();
  const at::Tensor row_lse = lse.contiguous(), row_entropy = entropy.contiguous();
  const auto data_of = [](const at::Tensor& x) { return x.defined() ? x.const_data_ptr<float>() : nullptr; };
  at::Tensor dh = at::empty(hidden.sizes(), hidden.options()), dw = grad_weight.value_or(at::Tensor());
  if (dw.defined() && !accumulates && hidden.size(0) == 0) dw.zero_();  // there is no chunk to do it
  Logits logits(hidden, weight);
  logits.for_chunks([&](int64_t begin, int64_t count, const at::Tensor& rows) {
    const LogprobBackwardArguments arguments{.at = rows_at(begin, count, logits, weight, row, token, temperature),
                                             .logits = logits.data(),
                                             .grad_logp = data_of(of_scores),
                                             .grad_entropy = data_of(of_rows),
                                             .lse = data_of(row_lse),
                                             .entropy = data_of(row_entropy)};
    C10_CUDA_CHECK(launch_selected_logprob_backward(arguments, element_of(hidden), c10::cuda::getCurrentCUDAStream()));
    const at::Tensor dz = logits.gradient(count);
    at::Tensor dh_rows = dh.narrow(0, begin, count);
    cublaslt_product(dz, false, weight, false, dh_rows, /*accumulates=*/false);
    if (dw.defined()) cublaslt_product(dz, true, rows, false, dw, accumulates || begin > 0);
  });
  return dh;
}

}  // namespace
}  // namespace fpdist::kernels

TORCH_LIBRARY_IMPL(fpdist, CUDA, m) {
  m.impl("partial_logprob", fpdist::kernels::partial_cuda);
  m.impl("selected_logprob", fpdist::kernels::forward_cuda);
  m.impl("selected_logprob_backward", fpdist::kernels::backward_cuda);
}
