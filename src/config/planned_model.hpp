#pragma once
// config: what plans know of a run's model, from its config.json alone. No torch.

#include <cstdint>
#include <vector>

#include "fpdist/arch/model.hpp"
#include "fpdist/config/config.hpp"
#include "fpdist/data/reader.hpp"
#include "fpdist/plan/context_plan.hpp"
#include "src/plan/figures/step_volume.hpp"

namespace fpdist::config {

/// The preset, or model.path's config.json; weights are not looked at. Throws ModelFileError, and ConfigError for a
/// preset that there is not.
arch::Model read_model_config(const model::ModelOptions& options);

/// What plans are made with: plan.costs, or the model's FLOPs; throws ConfigError for a file of another model.
plan::StageCosts plan_costs(const Config& config, const arch::Model& model);

/// Layers of each run of the pipeline in a mesh whose pp is known, see plan::stage_layers: a layer's work on one row
/// against the head's. What the weights are split by is what steps are planned with.
std::vector<int64_t> run_layers(const Config& config, const arch::Model& model);

/// Heads of one rank of the tp axis.
plan::CpHeads context_heads(const Config& config, const arch::Model& model);

/// What travels between context-parallel ranks, in bytes a row.
plan::CpCosts context_costs(const Config& config, const arch::Model& model);

/// What the model weighs while it trains; a reference that is dropped before the first step does not count.
plan::ModelBytes model_bytes(const Config& config, const arch::Model& model);

/// The configuration as a job of `ranks` ranks runs it: the mesh resolved, the layers of every run settled. Throws
/// ConfigError, naming key and cure, where ranks or model do not divide over the mesh.
Config settled(Config config, const arch::Model& model, int ranks);

/// Throws DataError when a token id is outside the model's vocabulary.
void check_vocabulary(const data::Dataset& dataset, const arch::Model& model);

}  // namespace fpdist::config
