#pragma once
// trainer (private): where the numbers of a step stop being finite. Asked only when they have.

#include <string>

#include "src/trainer/planning/planned_step.hpp"
#include "src/trainer/step/step_parts.hpp"
#include "src/trainer/step/step_results.hpp"

namespace fpdist::trainer {

/// Collective over the world, behind a step whose loss or gradient norm is not finite and which has updated nothing:
/// the same words on every rank. Which loss or gradient it is, of which rank, pack and samples, and the first module
/// whose rows are not finite, which a second forward of the step finds.
std::string describe_fault(const StepParts& parts, const PlannedStep& planned, const StepResults& results);

}  // namespace fpdist::trainer
