#pragma once
// config: which of a run's rollouts begin as demonstrations do (rollout.num_hybrids): the hybrids of Huang et al.,
// "Blending supervised and reinforcement fine-tuning with prefix sampling" (Prefix-RFT, 2025).

#include <cstdint>
#include <string>
#include <vector>

#include "fpdist/config/config.hpp"
#include "fpdist/data/prefix_lengths.hpp"
#include "fpdist/data/prompts.hpp"
#include "fpdist/generate/options.hpp"

namespace fpdist::config {

/// How long hybrids' prefixes are (rollout.prefix_*). Throws ConfigError naming the key.
data::PrefixLengths prefix_lengths(const generate::RolloutOptions& rollout);

/// Tokens of its demonstration that hybrids of the prompt at `place` among all begin with, in a round that begins with
/// `step`: of rollout.seed and these alone.
int64_t prefix_length(const data::PromptRow& prompt, int64_t place, int64_t step,
                      const generate::RolloutOptions& rollout);

/// The prompt with so many tokens of its demonstration behind it, and with the most that there can be: all but one.
std::vector<int32_t> begun(const data::PromptRow& prompt, int64_t prefix);
std::vector<int32_t> longest_begun(const data::PromptRow& prompt);

/// What of `sampling` the two kinds are drawn with, either alone: as many as there are of it, hybrids with seed + 1.
generate::SamplingOptions plain_sampling(const generate::SamplingOptions& sampling, int64_t num_hybrids);
generate::SamplingOptions hybrid_sampling(const generate::SamplingOptions& sampling, int64_t num_hybrids);

/// "1 of them behind the beginning of its demonstration, ", or nothing.
std::string hybrids_text(const Config& config);

}  // namespace fpdist::config
