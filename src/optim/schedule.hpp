#pragma once
// optim: learning-rate schedules, equal to Transformers' get_scheduler.

#include <cstdint>

#include "fpdist/optim/options.hpp"

namespace fpdist::optim {

/// Learning rate of optimizer step `step` (0-based) of `max_steps`. Throws ConfigError for an unknown schedule.
double learning_rate(const OptimOptions& options, int64_t step, int64_t max_steps);

}  // namespace fpdist::optim
