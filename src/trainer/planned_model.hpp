#pragma once
// trainer (private, and fpdist_plan's): what plans know of a run's model, from its config.json alone. No torch.

#include <cstdint>
#include <vector>

#include "fpdist/model/config.hpp"
#include "fpdist/plan/dispatch.hpp"
#include "fpdist/plan/step_volume.hpp"
#include "fpdist/trainer/options.hpp"

namespace fpdist::trainer {

/// The preset, or model.path's config.json; weights are not looked at. Throws ModelFileError, and ConfigError for a
/// preset that there is not.
model::ModelConfig read_model_config(const model::ModelOptions& options);

/// What plans are made with: plan.costs, or the model's FLOPs; throws ConfigError for a file of another model.
plan::StageCosts plan_costs(const Config& config, const model::ModelConfig& model);

/// Layers of each run of the pipeline in a mesh whose pp is known, see plan::stage_layers: a layer's work on one row
/// against the head's. What the weights are split by is what steps are planned with.
std::vector<int64_t> run_layers(const Config& config, const model::ModelConfig& model);

/// Heads of one rank of the tp axis.
plan::CpHeads context_heads(const Config& config, const model::ModelConfig& model);

/// What travels between context-parallel ranks, in bytes a row.
plan::CpCosts context_costs(const Config& config, const model::ModelConfig& model);

/// What the model weighs while it trains; a reference that is dropped before the first step does not count.
plan::ModelBytes model_bytes(const Config& config, const model::ModelConfig& model);

}  // namespace fpdist::trainer
