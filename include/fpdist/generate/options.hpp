#pragma once
// generate: what is sampled, under transformers' and TRL's names and in transformers' order: repetition penalty,
// temperature, top-k, top-p, min-p. Defaults are TRL's GRPOConfig's.

#include <cstdint>
#include <vector>

namespace fpdist::generate {

struct SamplingOptions {
  int64_t num_generations = 8;          ///< completions of each prompt
  int64_t max_completion_length = 512;  ///< tokens, the stop token among them
  double temperature = 1.0;             ///< 0: the likeliest token
  int64_t top_k = 0;                    ///< only the k likeliest, and all that equal the k-th; 0: off
  double top_p = 1.0;                   ///< only the likeliest whose sum first reaches p; 1: off
  double min_p = 0.0;                   ///< only those of at least p times the likeliest's; 0: off
  /// Logits of tokens that the prompt or the completion holds are divided by it where positive, multiplied where
  /// negative; 1: off.
  double repetition_penalty = 1.0;
  std::vector<int32_t> stop_token_ids = {};  ///< each ends a completion, as its last token
  int64_t max_num_seqs = 256;                ///< completions that are decoded together
  int64_t max_num_batched_tokens = 8192;     ///< rows that are computed together, of prompts and of completions
  double kv_gib = 0;                         ///< GiB of a rank for keys and values; 0: max_num_seqs alone decides
  uint64_t seed = 42;
};

/// Throws ConfigError that names the option.
void check_options(const SamplingOptions& options);

}  // namespace fpdist::generate
