#pragma once
// trainer (private): an output_dir that is used again.

#include "fpdist/config/config.hpp"

namespace fpdist::trainer {

/// Not collective: removes from train.output_dir every file that an earlier run wrote there (config.resolved.yaml,
/// metrics.jsonl, costs.yaml, trace-N.*, logs/rank_N.*, the exports checkpoint-N/ and final/), what a killed run left
/// of them, and their folders where nothing else is in them. All other files stay, and so does what `config` itself
/// reads: model.path, model.ref_path, data.path, plan.costs. Throws DiskError.
void remove_old_run(const config::Config& config);

}  // namespace fpdist::trainer
