#pragma once
// config: what a run reads that makes its own rollouts, and all that can be said against it without weights.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "fpdist/config/settled.hpp"
#include "fpdist/data/prompts.hpp"
#include "fpdist/data/tokenizer.hpp"
#include "fpdist/generate/options.hpp"

namespace fpdist::config {

struct RolloutInputs {
  std::vector<data::PromptRow> prompts, evaluated;  ///< of rollout.prompts and data.eval_path
  generate::SamplingOptions sampling;               ///< of rollouts, with all that ends a completion
  generate::SamplingOptions evaluation;             ///< as these but for what eval says, and draws of their own
};

/// Throws DataError for prompts that are none, ConfigError for stop texts without a tokenizer, and what
/// generate::read_kv_profile does. Not collective.
RolloutInputs read_rollout_inputs(const Settled& job, data::Tokenizer& tokenizer);

/// Throws ConfigError where nothing says what a completion is worth, `own` being functions that the caller has, and as
/// rewards::check_rewards does.
void check_rewards(const Config& config, size_t own = 0);

/// What generation is asked to complete, at most.
struct PromptSet {
  std::string key;  ///< of the prompts
  std::vector<std::vector<int32_t>> prompts;
  generate::SamplingOptions sampling;
};
/// Rollouts, hybrids with their longest prefix, and evaluations, where there are any.
std::vector<PromptSet> prompt_sets(const Settled& job, const RolloutInputs& inputs);

/// Throws, naming the key of the prompts, where a completion of some prompt would have no place in the model, in
/// rollout.kv_gib or in a pack, and for options that this model cannot be generated from with.
void check_rollouts(const Settled& job, const RolloutInputs& inputs);

/// Bytes of one row's keys and values on a rank of the stage that has most layers.
int64_t bytes_per_row(const Settled& job);

}  // namespace fpdist::config
