#include "kernels/selected_logprob/row_statistics.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/common/vector_math.hpp"

// Inlined into each clone, or the clones would all call one plain x86-64 body.
#define FPDIST_INLINE __attribute__((always_inline)) inline

namespace fpdist::kernels {
namespace {

constexpr int64_t kBlock = 64 * kLanes;

template <typename A>
FPDIST_INLINE A largest(const A* logits, int64_t vocabulary) {
  A lane[kLanes];
  for (int l = 0; l < kLanes; ++l) lane[l] = -std::numeric_limits<A>::infinity();
  int64_t i = 0;
  for (; i + kLanes <= vocabulary; i += kLanes)
    for (int l = 0; l < kLanes; ++l) lane[l] = logits[i + l] > lane[l] ? logits[i + l] : lane[l];
  for (; i < vocabulary; ++i) lane[0] = logits[i] > lane[0] ? logits[i] : lane[0];
  for (int l = 1; l < kLanes; ++l) lane[0] = lane[l] > lane[0] ? lane[l] : lane[0];
  return lane[0];
}

template <typename A>
FPDIST_INLINE RowStatistics statistics(const A* logits, int64_t vocabulary, A factor) {
  const A highest = largest(logits, vocabulary);
  if (vocabulary == 0) return {.lse = highest, .best = highest, .entropy = 0, .argmax = 0};
  int64_t argmax = 0;
  while (argmax < vocabulary && logits[argmax] != highest) ++argmax;
  double sum = 0, weighted = 0;
  for (int64_t begin = 0; begin < vocabulary; begin += kBlock) {
    const int64_t end = std::min(vocabulary, begin + kBlock);
    A sum_lane[kLanes] = {}, weighted_lane[kLanes] = {};
    int64_t i = begin;
    for (; i + kLanes <= end; i += kLanes)
      for (int l = 0; l < kLanes; ++l) {
        const A below = (logits[i + l] - highest) * factor, e = vector_exp(below);
        sum_lane[l] += e;
        weighted_lane[l] += e * below;
      }
    for (; i < end; ++i) {
      const A below = (logits[i] - highest) * factor, e = vector_exp(below);
      sum_lane[0] += e;
      weighted_lane[0] += e * below;
    }
    for (int l = 0; l < kLanes; ++l)
      sum += static_cast<double>(sum_lane[l]), weighted += static_cast<double>(weighted_lane[l]);
  }
  const double log_sum = std::log(sum);
  const double best = static_cast<double>(highest) * static_cast<double>(factor);
  return {best + log_sum, best, log_sum - weighted / sum, argmax < vocabulary ? argmax : 0};
}

}  // namespace

FPDIST_CPU_CLONES RowStatistics row_statistics(const float* logits, int64_t vocabulary, float factor) {
  return statistics(logits, vocabulary, factor);
}
FPDIST_CPU_CLONES RowStatistics row_statistics(const double* logits, int64_t vocabulary, double factor) {
  return statistics(logits, vocabulary, factor);
}

}  // namespace fpdist::kernels
