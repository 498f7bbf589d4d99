#pragma once
// generate: what is sampled, under transformers' and TRL's names and in transformers' order: repetition penalty,
// temperature, top-k, top-p, min-p. Defaults are TRL's GRPOConfig's.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace fpdist {
struct Key;
}
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
  std::vector<int64_t> stop_token_ids = {};  ///< each ends a completion, as its last token
  int64_t max_num_seqs = 256;                ///< completions that are decoded together
  int64_t max_num_batched_tokens = 8192;     ///< rows that are computed together, of prompts and of completions
  double kv_gib = 0;                         ///< GiB of a rank for keys and values; 0: max_num_seqs alone decides
  uint64_t seed = 42;
};

/// GRPO that makes its own rollouts: what a run samples, and what its steps make of it.
struct RolloutOptions : SamplingOptions {
  /// JSON lines of prompts (data/prompts.hpp), in the place of data.path: each round completes some of them with the
  /// weights as they are, has the completions judged (rewards) and learns from them. Empty: no rollouts.
  std::vector<std::string> prompts = {};
  /// Steps that share one round's rollouts: a round has so many times train.groups_per_step prompts, each step its
  /// part.
  int64_t steps_per_generation = 1;
  /// Times that a round's steps go through its rollouts.
  int64_t num_iterations = 1;
  /// auto | recompute | sampled: log-probs that ratios compare with. sampled: those that came with the tokens.
  /// recompute: one pass over a round's rollouts ahead of its first step. auto: none where a round has one step, as
  /// the ratio is 1 then, else recompute.
  std::string old_logps = "auto";
  /// Write what was sampled and its rewards to completions/step-<n>.jsonl in train.output_dir.
  bool log_completions = false;

  static std::span<const Key> keys();
};

/// How a run's model is judged by what it generates: prompts of data.eval_path where rollout.prompts is given, every
/// train.eval_steps.
struct EvalOptions {
  int64_t num_generations = 1;         ///< completions of each prompt
  double temperature = 0.0;            ///< 0: the likeliest token
  std::vector<int64_t> pass_at = {1};  ///< k of eval_pass at k, each at most num_generations
  int64_t max_completion_length = 0;   ///< 0: as rollout.max_completion_length

  static std::span<const Key> keys();
};

/// Throws ConfigError that names the option.
void check_options(const SamplingOptions& options);

}  // namespace fpdist::generate
