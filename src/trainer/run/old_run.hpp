#pragma once
// trainer (private): the files of a run in its output_dir: those that one will write, and those that an earlier one
// left.

#include <functional>
#include <string>
#include <vector>

#include "fpdist/trainer/options.hpp"

namespace fpdist::trainer {

/// Every file in output_dir that is there already and that a run with these options writes over, appends to or removes
/// on its way: its own logs and metrics, the checkpoint-N/ that it saves and final/, and what they are called while
/// they are written.
std::vector<std::string> files_in_the_way(const TrainOptions& options);

/// What a run has finished there: "final", "checkpoint-10" or another one's name; "" where there is none.
std::string results_in(const std::string& output_dir);

/// Not collective: removes what a killed run was writing: NAME.tmp of its files, exports and training states. Throws
/// DiskError.
void remove_unfinished(const std::string& output_dir);

/// Not collective: removes from `output_dir` every file that an earlier run wrote there (config.resolved.yaml,
/// metrics.jsonl, metrics.prom, costs.yaml, trace-N.*, logs/rank_N.*, TensorBoard's events, checkpoint-N/, training
/// states and exports, and final/), what a killed run left of them, and their folders where nothing else is in them.
/// All other files stay, and so does what `keeps`. Throws DiskError.
void remove_old_run(const std::string& output_dir, const std::function<bool(const std::string& file)>& keeps);

}  // namespace fpdist::trainer
