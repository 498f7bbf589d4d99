#pragma once
// trainer (private): pack.verify_steps: the step's loss and gradients with shared prefixes, and again with every sample
// alone.

#include "fpdist/core/log.hpp"
#include "src/trainer/planning/step_planner.hpp"
#include "src/trainer/step/step_parts.hpp"

namespace fpdist::trainer {

/// Collective. Runs the step's groups both ways, without an update. Throws NumericsError with the worst difference, and
/// the tensor that has it, where it is more than rounding explains; else `log` hears it. What is zero by construction
/// passes: a loss is held against the size of its terms, a gradient that is off by more than the dtype's tolerance
/// against what moving the weights to their neighbouring numbers does to it (a third run of the step).
void verify_step(const StepParts& parts, const StepPlanner& planner, const PlannedStep& planned, LogSink& log);

}  // namespace fpdist::trainer
