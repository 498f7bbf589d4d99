#include "fpdist/core/error.hpp"
#include "fpdist/rewards/rewards.hpp"

namespace fpdist::rewards {

double pass_at(int64_t k, int64_t samples, int64_t right) {
  check<ConfigError>(k >= 1 && k <= samples, "pass@", k, " of ", samples,
                     " completions: k is at least 1 and at most so many (num_generations)");
  if (samples - right < k) return 1;
  double none = 1;
  for (int64_t i = samples - right + 1; i <= samples; ++i) none *= 1 - static_cast<double>(k) / static_cast<double>(i);
  return 1 - none;
}

}  // namespace fpdist::rewards
