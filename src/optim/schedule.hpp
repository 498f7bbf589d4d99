#pragma once
// optim: learning-rate schedules, equal to Transformers' get_scheduler.

#include <cstdint>
#include <functional>

#include "fpdist/optim/options.hpp"

namespace fpdist::optim {

/// Steps of a run that warm up: warmup_steps or, where that is 0, warmup_ratio of max_steps, rounded up.
int64_t warmup_steps(const OptimOptions& options, int64_t max_steps);

/// What the peak learning rates are multiplied by, step by step.
class RateSchedule {
 public:
  /// Of a run of `max_steps` steps. Throws ConfigError for an unknown type, and naming the argument of
  /// optim.lr_scheduler_kwargs that the type does not know, that it misses or that it cannot use.
  RateSchedule(const OptimOptions& options, int64_t max_steps);
  /// Of optimizer step `step` (0-based).
  double factor(int64_t step) const { return factor_(static_cast<double>(step)); }

 private:
  std::function<double(double step)> factor_;
};

}  // namespace fpdist::optim
