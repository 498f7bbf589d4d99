#pragma once
// generate: what a model is asked to complete, as far as it can be refused without the model's weights. No torch: plans
// ask it too.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "fpdist/arch/model.hpp"
#include "fpdist/generate/options.hpp"

namespace fpdist::generate {

/// Throws ConfigError for a model whose keys are not those of its tokens alone, or not on the CPU, for which `key` is
/// not: `off` is its value then.
void check_plain_model(const arch::Model& model, bool is_on_cpu, const std::string& key, const char* off);

/// check_options, and ConfigError for a stop token that the vocabulary has not and for options that this model, there,
/// cannot be generated from with.
void check_model(const arch::Model& model, bool is_on_cpu, const SamplingOptions& options);

/// Rows that rollout.kv_gib has room for.
int64_t most_rows(int64_t bytes_per_row, const SamplingOptions& options);

/// Throws DataError for an empty prompt, a token that the model has not, or a prompt with which max_completion_length
/// tokens exceed the model's positions; ConfigError for one whose completions do not fit into kv_gib.
void check_prompts(const arch::Model& model, std::span<const std::vector<int32_t>> prompts,
                   const SamplingOptions& options, int64_t bytes_per_row);

}  // namespace fpdist::generate
