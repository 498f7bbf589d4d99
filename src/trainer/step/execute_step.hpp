#pragma once
// trainer (private): a planned step, run.

#include "src/trainer/planning/planned_step.hpp"
#include "src/trainer/report/step_record.hpp"
#include "src/trainer/step/step_parts.hpp"

namespace fpdist::trainer {

/// Collective. Packs forward and backward, gradients reduced and clipped, weights updated, as `planned` says, which
/// must outlive the record. In the record are ops, times, exchange_seconds, memory, metrics, grad_norm and
/// learning_rate, and how it ended: where a loss or the norm is not finite, or the norm above guard.most_norm(),
/// nothing has changed but the optimizer's count (Weights::take_back). Throws OutOfMemoryError: what was wanted by
/// which op, and the pack size that would have fitted.
StepRecord execute_step(const StepParts& parts, const PlannedStep& planned);

}  // namespace fpdist::trainer
