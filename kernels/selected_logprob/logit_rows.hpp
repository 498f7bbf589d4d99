#pragma once
// selected_logprob apart from its products: what is done to rows of logits that lie in memory, by ATen's operations on
// any device or by the GPU's own kernels. R rows of V >= 1 columns, S scores, all [R] and [S] tensors those of a larger
// whole of which the logits are rows `first_row` and the next ones; A the accumulation dtype. Logits are used up, but
// by our own kernel for statistics.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

namespace fpdist::kernels {

/// Which scores there are, and what logits are divided by.
struct LogitScores {
  at::Tensor row, target;  ///< [S] int64, as selected_logprob's score_row and target
  int64_t first_row = 0;
  double temperature = 1;
};

/// As partial_logprob has them; written for the rows that are here and their scores, the rest is left alone.
struct LogitResults {
  at::Tensor logit, lse, entropy, best;  ///< [S], [R], [R], [R] in A
  at::Tensor argmax;                     ///< [R] int64
  bool is_relative = false;              ///< logit less lse: the log-probability
};

/// Gradients [S] and [R] in A, either may be absent, and what forward said.
struct LogitGradients {
  std::optional<at::Tensor> logp, entropy;
  at::Tensor lse, row_entropy;
};

using LogitStatistics = void (*)(at::Tensor& logits, const LogitScores& scores, LogitResults& results);
/// The gradient of the logits [R,V] in `dtype`, in the logits' memory or its own.
using LogitGradient = at::Tensor (*)(at::Tensor& logits, const LogitScores& scores, const LogitGradients& of,
                                     at::ScalarType dtype);

void composed_logit_statistics(at::Tensor& logits, const LogitScores& scores, LogitResults& results);
at::Tensor composed_logit_gradient(at::Tensor& logits, const LogitScores& scores, const LogitGradients& of,
                                   at::ScalarType dtype);

/// By the GPU's kernels: operators of libfpdist_cuda. float32 logits, rows at any multiple of 4 elements from 16-byte
/// boundaries; float32 or bfloat16 gradients.
void logit_statistics(at::Tensor& logits, const LogitScores& scores, LogitResults& results);
at::Tensor logit_gradient(at::Tensor& logits, const LogitScores& scores, const LogitGradients& of,
                          at::ScalarType dtype);

/// The operators behind these two, defined where they are implemented.
using FlatLogitStatistics = void(const at::Tensor& logits, const at::Tensor& row, const at::Tensor& target,
                                 int64_t first_row, double temperature, at::Tensor& logit, at::Tensor& lse,
                                 at::Tensor& entropy, at::Tensor& best, at::Tensor& argmax, bool is_relative);
using FlatLogitGradient = void(at::Tensor& logits, const at::Tensor& row, const at::Tensor& target, int64_t first_row,
                               double temperature, const std::optional<at::Tensor>& grad_logp,
                               const std::optional<at::Tensor>& grad_entropy, const at::Tensor& lse,
                               const at::Tensor& entropy, at::ScalarType dtype);

}  // namespace fpdist::kernels
