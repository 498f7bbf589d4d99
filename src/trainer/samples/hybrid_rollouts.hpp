#pragma once
// trainer (private): rollouts of which some go on from the beginning of a demonstration (config/hybrids).

#include <cstdint>
#include <span>
#include <vector>

#include "fpdist/trainer/trainer.hpp"

namespace fpdist::trainer {

/// Collective, as Trainer::roll_out, with sampling.num_generations samples a prompt. The last num_hybrids of them go on
/// from begun[prompt], which is the prompt with the beginning of its demonstration: this counts as theirs, is judged,
/// and learned by prefix_advantage. They are what roll_out makes of `begun` with config::hybrid_sampling, the others
/// what it makes of the prompts; either goes on for max_completion_length tokens. Without hybrids `begun` may be empty.
std::vector<data::Group> roll_out_hybrids(Trainer& trainer, std::span<const std::vector<int32_t>> prompts,
                                          std::span<const std::vector<int32_t>> begun,
                                          const generate::SamplingOptions& sampling, int64_t num_hybrids,
                                          uint64_t first_prompt, generate::GenerationReport& report,
                                          const RolledOut& finished);

}  // namespace fpdist::trainer
