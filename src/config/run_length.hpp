#pragma once
// config: how long a run is.

#include <cstdint>

#include "fpdist/trainer/options.hpp"

namespace fpdist::config {

/// Steps of a run that names neither train.max_steps nor train.num_train_epochs.
inline constexpr int64_t kStepsByDefault = 100;

/// Optimizer steps of a settled job over data of `steps_per_epoch` steps: train.max_steps, or where that is 0
/// train.num_train_epochs of them, rounded up (Transformers' rule).
int64_t steps_of(const trainer::TrainOptions& options, int64_t steps_per_epoch);

}  // namespace fpdist::config
