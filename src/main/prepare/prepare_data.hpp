#pragma once
// main: a job's data as the trainer will see it.

#include <string>
#include <vector>

namespace fpdist::main_program {

/// fpdist_prepare [--config] FILE.yaml [--section.key value ...] [--show N] [--dump FILE] [--report FILE] [--html FILE]
/// [--prune]: reads the data of a configuration as fpdist_train would, and says what they are like; with --prune
/// removes old token caches instead. Throws what reading does, ConfigError, DiskError.
void prepare_data(std::vector<std::string> arguments);

}  // namespace fpdist::main_program
