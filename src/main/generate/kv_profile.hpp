#pragma once
// main: PrefixKV's calibration as a file: a JSON object of budget, start_size, prompts (how many were averaged) and
// dropped, the mean share of a prompt's keys that each layer drops.

#include <string>
#include <vector>

#include "fpdist/generate/generate.hpp"
#include "fpdist/generate/options.hpp"

namespace fpdist::main_program {

/// Of what a run with these options has dropped. Throws DataError where no prompt has rows of its own, DiskError.
void write_kv_profile(const std::string& path, const generate::PrefixKvOptions& options,
                      const generate::GenerationReport& report);

/// The file's shares, its budget and start size into `options`. Throws DataError for a file that cannot be read,
/// ModelFileError for one that is no profile, ConfigError where `options` have another budget already.
std::vector<double> read_kv_profile(const std::string& path, generate::PrefixKvOptions& options);

}  // namespace fpdist::main_program
