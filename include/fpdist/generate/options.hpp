#pragma once
// generate: what is sampled, under transformers' and TRL's names and in transformers' order: repetition penalty,
// temperature, top-k, top-p, min-p. Defaults are TRL's GRPOConfig's.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace fpdist {
struct Key;
}
namespace fpdist::generate {

/// FlexPrefill of long prompts (Lai et al., 2025): blocks of queries see, head by head, the blocks of keys that a
/// search keeps, and no others (ops/flex_prefill.hpp). What follows is not quite what the model says: for evaluations,
/// never for what is learned from.
struct FlexPrefillOptions {
  double gamma = 0;            ///< share of the attention that kept blocks are to cover; 0: off
  double tau = 0.1;            ///< heads whose search has diverged by less choose for each block of queries apart
  int64_t min_budget = 1024;   ///< keys that lines down and along the diagonal keep at least
  int64_t max_budget = 0;      ///< and at most; 0: any number
  int64_t block_size = 128;    ///< queries and keys of a block
  int64_t window = 4096;       ///< queries that one search is for, a multiple of block_size
  int64_t min_tokens = 16384;  ///< of a prompt; shorter ones see all their keys
  int64_t check_prompts = 1;   ///< prompts that are computed with all keys as well, to say what was lost
  double max_error = 0.02;     ///< mean |difference| of their tokens' log-probs, in nats, that goes through
  bool is_on() const { return gamma > 0; }

  static std::span<const Key> keys();
};

/// PrefixKV (Wang et al., 2024): of a prompt's keys each layer keeps those that were attended to most, layers with flat
/// attention more of them, so many in all as `budget` says (src/generate/prefix_kv.hpp). Of rows that several prompts
/// have, all stay. What follows is not quite what the model says: for evaluations, never for what is learned from.
struct PrefixKvOptions {
  double budget = 1;       ///< share of the keys that stay, over all layers; 1: off
  int64_t start_size = 1;  ///< a prompt's first keys that stay whatever was attended to
  int64_t distance = 25;   ///< a completion's keys from which on the one so many before its last one goes
  /// [layers of the model] the share of a prompt's own keys that each drops, in the place of those that are found for
  /// each prompt (src/generate/kv_profile.hpp); empty: these are.
  std::vector<double> dropped = {};
  bool is_on() const { return budget < 1; }
};

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
  /// Texts that end a completion with the token that completes one, wherever in tokens they begin and end: vLLM's stop.
  std::vector<std::string> stop = {};
  /// With `stop`, [ids] of the tokenizer (data::Tokenizer::token_bytes).
  std::shared_ptr<const std::vector<std::string>> token_bytes = nullptr;
  int64_t max_num_seqs = 256;             ///< completions that are decoded together
  int64_t max_num_batched_tokens = 8192;  ///< rows that are computed together, of prompts and of completions
  double kv_gib = 0;                      ///< GiB of a rank for keys and values; 0: max_num_seqs alone decides
  /// The same bits of tokens and log-probs whatever is decoded beside a completion, in which order, how many at once
  /// and in how many parts prompts are computed. On the CPU, in float32 and bfloat16.
  bool batch_invariant = false;
  uint64_t seed = 42;
  FlexPrefillOptions flex_prefill = {};
  PrefixKvOptions prefix_kv = {};
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
  /// Of num_generations, those behind the beginning of their prompt's demonstration (Prefix-RFT), all behind the same
  /// one; drawn with seed + 1. 0: none, demonstrations are not read.
  int64_t num_hybrids = 0;
  /// How long this beginning is (data::PrefixLengths): two bounds of a share, each DECAY,FIRST[,LAST[,STEPS
  /// [,WARMUP_STEPS[,DELAY_STEPS[,DELAY_VALUE]]]]], the Beta distribution between them, and the fewest tokens.
  std::string prefix_low = "cosine_decay,0.95,0.05,1", prefix_high = "const,0.95";
  double prefix_alpha = 1, prefix_beta = 1;
  int64_t prefix_min_tokens = 1;
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
  double kv_budget = 1.0;              ///< PrefixKvOptions::budget
  int64_t kv_start_size = 1;           ///< and its others
  int64_t kv_distance = 25;
  std::string kv_profile = {};  ///< file of PrefixKvOptions::dropped, budget and start size; empty: none

  static std::span<const Key> keys();
};

/// Throw ConfigError that names the option: what several keys must agree on; all.
void check_together(const FlexPrefillOptions& options);
void check_options(const SamplingOptions& options);

}  // namespace fpdist::generate
