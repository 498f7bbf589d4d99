#pragma once
// generate: PrefixKV's calibration as a file: a JSON object of model (which its shares are for), budget, start_size,
// prompts (how many were averaged) and dropped, the mean share of a prompt's keys that each layer drops. No torch:
// plans read it too.

#include <cstdint>
#include <span>
#include <string>

#include "fpdist/arch/model.hpp"
#include "fpdist/generate/options.hpp"

namespace fpdist::generate {

/// The file's text, of what prompts with these options have dropped: `dropped` [layers] sums over `prompts` of them, as
/// GenerationReport has them. Throws DataError where there are none.
std::string to_kv_profile(const arch::Model& model, const PrefixKvOptions& options, int64_t prompts,
                          std::span<const double> dropped);

/// The file's shares, its budget and start size into `options`. Throws ModelFileError for a file that cannot be
/// read or is no profile, ConfigError for one of another model and where `options` have another budget or start size
/// already.
void read_kv_profile(const std::string& path, const arch::Model& model, PrefixKvOptions& options);

}  // namespace fpdist::generate
