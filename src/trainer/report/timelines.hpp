#pragma once
// trainer (private): what every rank did when, measured, and what the plan's simulation says, for Perfetto.

#include <string>

#include "src/trainer/job.hpp"
#include "src/trainer/report/step_record.hpp"

namespace fpdist::trainer {

/// Collective. Rank 0 writes `base`.json (measured), `base`.planned.json and both as text, `base`.txt; throws
/// DiskError.
void write_timelines(const StepRecord& record, const Job& job, const std::string& base);

}  // namespace fpdist::trainer
