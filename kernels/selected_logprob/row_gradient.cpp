#include "kernels/selected_logprob/row_gradient.hpp"

#include "kernels/common/vector_math.hpp"

// Inlined into each clone, or the clones would all call one plain x86-64 body.
#define FPDIST_INLINE __attribute__((always_inline)) inline

namespace fpdist::kernels {
namespace {

template <typename A>
FPDIST_INLINE A column(A logit, const RowTerms<A>& row, A own) {
  const A log_p = logit * row.factor - row.lse;
  return (own - vector_exp(log_p) * (row.logp + row.of_entropy * (log_p + row.entropy))) * row.factor;
}

template <typename A, typename S>
FPDIST_INLINE void columns(const A* logits, int64_t vocabulary, const RowTerms<A>& row, S* gradient) {
  const RowTerms<A> of = row;  // what is written cannot be it
  for (int64_t i = 0; i < vocabulary; ++i) gradient[i] = stored<S>(column(logits[i], of, A(0)));
}

}  // namespace

FPDIST_CPU_CLONES void row_gradient(const float* logits, int64_t vocabulary, const RowTerms<float>& row,
                                    float* gradient) {
  columns(logits, vocabulary, row, gradient);
}
FPDIST_CPU_CLONES void row_gradient(const double* logits, int64_t vocabulary, const RowTerms<double>& row,
                                    double* gradient) {
  columns(logits, vocabulary, row, gradient);
}
FPDIST_CPU_CLONES void row_gradient(const float* logits, int64_t vocabulary, const RowTerms<float>& row,
                                    uint16_t* gradient) {
  columns(logits, vocabulary, row, gradient);
}
float column_gradient(float logit, const RowTerms<float>& row, float own) { return column(logit, row, own); }
double column_gradient(double logit, const RowTerms<double>& row, double own) { return column(logit, row, own); }

}  // namespace fpdist::kernels
