#pragma once
// selected_logprob on the CPU: from one row of logits to its gradient, in one pass.

#include <cstdint>

namespace fpdist::kernels {

/// What the gradient of a row's logits is made of, but for its scores' own columns. A: float or double.
template <typename A>
struct RowTerms {
  A factor;            ///< 1 / temperature
  A lse, entropy;      ///< of the row
  A logp, of_entropy;  ///< summed gradients of its scores' log-probs, gradient of its entropy
};

/// gradient[i] = -p (logp + of_entropy (log p + entropy)) factor, over `vocabulary` columns; `gradient` may be `logits`
/// where it is of their type. bfloat16 by its bits.
void row_gradient(const float* logits, int64_t vocabulary, const RowTerms<float>& row, float* gradient);
void row_gradient(const double* logits, int64_t vocabulary, const RowTerms<double>& row, double* gradient);
void row_gradient(const float* logits, int64_t vocabulary, const RowTerms<float>& row, uint16_t* gradient);
/// One column of a gradient, with what its scores add before it is rounded.
float column_gradient(float logit, const RowTerms<float>& row, float own);
double column_gradient(double logit, const RowTerms<double>& row, double own);

}  // namespace fpdist::kernels
