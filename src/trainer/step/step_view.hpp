#pragma once
// trainer (private): what a loss that couples a step's samples sees of all of them.

#include "fpdist/loss/loss.hpp"
#include "src/trainer/planning/planned_step.hpp"
#include "src/trainer/step/step_parts.hpp"

namespace fpdist::trainer {

/// Collective. Runs policy and reference forward over the step's samples, or over those that `planned.mismatched`
/// holds, and puts together what Objective::look takes down of their packs: every rank gets all of it, each value as
/// the one rank that took it down has it, so that sums over it are the same on every rank. Nothing, and no exchange,
/// where the loss looks at nothing.
loss::View view_of_step(const StepParts& parts, const PlannedStep& planned);

}  // namespace fpdist::trainer
