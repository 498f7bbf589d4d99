#pragma once
// generate, private: what flex_prefill changes.

#include <cstdint>
#include <span>
#include <vector>

#include "fpdist/generate/generate.hpp"

namespace fpdist::generate {

/// The log-probs of the first long prompts' own tokens, check_prompts of them, with all keys and without: in a report
/// that has nothing else. Collective over the model's ranks. Throws ConfigError where they differ by more than
/// max_error in the mean.
FlexReport check_flex_prefill(const Stages& stages, std::span<const std::vector<int32_t>> prompts,
                              const FlexPrefillOptions& options);

}  // namespace fpdist::generate
