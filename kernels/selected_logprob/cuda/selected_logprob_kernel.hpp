#pragma once
// selected_logprob on the GPU: what a row of logits is reduced to, and the gradient that takes its place. One block a
// row: forward reads it once, backward reads it once and writes the gradient over it. Sums have a fixed order, which is
// a function of the vocabulary alone. Part of libfpdist_cuda.

#include <driver_types.h>

#include <cstdint>

#include "kernels/cuda/element.hpp"

namespace fpdist::kernels {

/// Rows [first_row, first_row + rows) of all rows R. logits [rows,vocabulary] at `stride` (elements), a multiple of 4
/// from a 16-byte boundary; what lies between a row's end and the next is neither read nor written. score_row [scores]
/// in [0,R) ascending, target [scores]: what is outside [0,vocabulary) has no column. factor = 1 / temperature.
struct LogprobRows {
  int64_t first_row, rows, vocabulary, stride;
  const int64_t *score_row, *target;
  int64_t scores;
  float factor;
};

/// Everything in the whole's numbers, for the rows that are here and their scores: logit [scores], lse, entropy, best,
/// argmax [R] as partial_logprob has them. `is_relative`: logit less lse, the log-probability.
struct LogprobArguments {
  LogprobRows at;
  const float* logits;
  float *logit, *lse, *entropy, *best;
  int64_t* argmax;
  bool is_relative;
};

/// grad_logp [scores] or null, grad_entropy [R] or null, lse and entropy [R]. The gradient of the logits lies where
/// these lay, each row at its logits' place, its elements side by side. A row that no gradient reaches is not read.
struct LogprobBackwardArguments {
  LogprobRows at;
  float* logits;
  const float *grad_logp, *grad_entropy, *lse, *entropy;
};

/// Queue the kernel on `stream`; the answer is cudaGetLastError's. `element`: of the gradient.
cudaError_t launch_selected_logprob(const LogprobArguments& arguments, cudaStream_t stream);
cudaError_t launch_selected_logprob_backward(const LogprobBackwardArguments& arguments, Element element,
                                             cudaStream_t stream);

}  // namespace fpdist::kernels
