#pragma once
// plan: a step's plan as integers, for ranks that do not make it themselves.

#include <cstdint>

#include "fpdist/plan/step_plan.hpp"

namespace fpdist {
class IntegerWriter;
class IntegerReader;
}  // namespace fpdist

namespace fpdist::plan {

/// StepPlan::hash of a plan.
uint64_t hash_of(const StepPlan& plan, const ParallelOptions& parallel);

void write_plan(const StepPlan& plan, IntegerWriter& to);
/// Throws CommError where what follows is no plan, or not the one that its hash is of.
StepPlan read_plan(IntegerReader& from, const ParallelOptions& parallel);

}  // namespace fpdist::plan
