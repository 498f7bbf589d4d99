#pragma once
// trainer (private): what a step works with; all of it outlives the step.

#include "src/optim/schedule.hpp"
#include "src/trainer/job.hpp"
#include "src/trainer/step/objective.hpp"
#include "src/trainer/step/reference.hpp"
#include "src/trainer/step/step_guard.hpp"
#include "src/trainer/weights/weights.hpp"

namespace fpdist::trainer {

struct StepParts {
  const Job& job;
  Weights& weights;
  const Objective& objective;
  const Reference& reference;
  const optim::RateSchedule* schedule = nullptr;  ///< of the run; null: none of its steps is run
  const StepGuard* guard = nullptr;               ///< null: with the schedule
};

}  // namespace fpdist::trainer
