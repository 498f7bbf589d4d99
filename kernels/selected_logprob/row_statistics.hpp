#pragma once
// selected_logprob on the CPU: what one row of logits is reduced to, in two passes over it.

#include <cstdint>

namespace fpdist::kernels {

struct RowStatistics {
  double lse;      ///< of the logits times `factor`; -inf without any
  double best;     ///< the largest logit times `factor`; -inf without any
  double entropy;  ///< of their distribution
  int64_t argmax;  ///< first of the largest
};

/// Logits [vocabulary]; factor = 1 / temperature. Sums run in short blocks that are added in float64.
RowStatistics row_statistics(const float* logits, int64_t vocabulary, float factor);
RowStatistics row_statistics(const double* logits, int64_t vocabulary, double factor);

}  // namespace fpdist::kernels
