#pragma once
// trainer (private): the loss of groups that are no step: forward only, on the mesh and with the packs of a step.

#include <cstdint>
#include <span>
#include <string>

#include "fpdist/data/sample.hpp"
#include "src/trainer/planning/step_planner.hpp"
#include "src/trainer/report/evaluation_report.hpp"
#include "src/trainer/step/step_parts.hpp"

namespace fpdist::trainer {

/// Collective. Loss and metrics of all `groups` together, as one step of them would have: train.groups_per_step at a
/// time, each batch planned and laid out while the one before it runs, with the normaliser of all. Weights, gradients
/// and what is known of costs stay as they are. `when` for positions: "evaluation after step 20". Without groups every
/// metric is there, as of nothing. Throws DataError where the ranks' groups differ.
Evaluated evaluate_groups(const StepParts& parts, const StepPlanner& planner, std::span<const data::Group> groups,
                          const std::string& when);

}  // namespace fpdist::trainer
