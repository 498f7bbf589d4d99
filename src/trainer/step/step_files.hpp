#pragma once
// trainer (private): a step for whoever wants to see it again: its groups, its costs and a configuration of that one
// step.

#include <span>
#include <string>

#include "fpdist/data/sample.hpp"
#include "src/files/inputs.hpp"
#include "src/trainer/job.hpp"
#include "src/trainer/planning/planned_step.hpp"

namespace fpdist::trainer {

/// Rank 0 writes, for step N, into `folder`: step-N.rows.jsonl, `groups` as rows of token ids; step-N.costs.yaml;
/// step-N.yaml, with which fpdist_train runs that step alone and fpdist_plan plans it; step-N.plan.json, `why` and the
/// plan's hash, for fpdist_plan --replay. Returns the words that say so, "" elsewhere and where they could not be
/// written, which `log` hears. `inputs` are spared.
std::string write_step_files(const Job& job, const PlannedStep& planned, std::span<const data::Group> groups,
                             const std::string& why, const std::string& folder, const files::Inputs& inputs,
                             LogSink& log);

}  // namespace fpdist::trainer
