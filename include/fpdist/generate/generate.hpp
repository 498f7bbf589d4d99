#pragma once
// generate: completions of prompts that share prefixes, by the model that is trained, in its process: the same tensors,
// the same token ids, the same attention. Prompts become a forest, each prefix computed once; every completion is a
// leaf with room for its rows, so that who sees whom is the rule of training: key j is visible to
// query i iff j <= i < subtree_end[j]. One query a completion decodes (Juravsky et al., "Hydragen", 2024, for any
// tree).
//
// A token is a function of (weights, prompt, options, seed, draw, position), draw being the completion's number; other
// prompts, their order and how many are decoded together do not enter, but for the last bits of the products
// (kernels round by the number of rows; calls are padded to multiples of 16 for it).

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "fpdist/generate/options.hpp"
#include "fpdist/generate/stages.hpp"

namespace fpdist::generate {

enum class FinishReason : uint8_t {
  kStop,        ///< the last token is one of stop_token_ids
  kStopString,  ///< the last token completes one of `stop`
  kLength       ///< max_completion_length tokens are there
};
/// stop | stop_string | length
const char* name_of(FinishReason reason);

struct Completion {
  std::vector<int32_t> token;  ///< at least one
  /// Of each token under softmax(logits / temperature) over the whole vocabulary, whatever top_k, top_p, min_p and the
  /// penalty left of it: what a loss compares with. Temperature 0: of softmax(logits).
  std::vector<double> logp;
  std::vector<double> entropy;  ///< [tokens] of the same distribution, in nats
  FinishReason finish_reason = FinishReason::kLength;
};

/// What flex_prefill left out, on this rank, and what that changed in the prompts that were computed with all keys too;
/// the model's own time for these.
struct FlexReport {
  int64_t kept_blocks = 0, all_blocks = 0;  ///< pairs of a block of queries and one of keys that they might see
  int64_t checked_prompts = 0, checked_tokens = 0;
  double sum_difference = 0, greatest_difference = 0;  ///< |log-prob with all keys - without|, in nats
  double all_seconds = 0, kept_seconds = 0;
  double search_seconds = 0;  ///< of kept_seconds, those that the choice of keys took
  double kept_share() const {
    return all_blocks == 0 ? 1 : static_cast<double>(kept_blocks) / static_cast<double>(all_blocks);
  }
  double mean_difference() const {
    return checked_tokens == 0 ? 0 : sum_difference / static_cast<double>(checked_tokens);
  }
  FlexReport& operator+=(const FlexReport& other);
};

/// What generating took; of several calls, their sum.
struct GenerationReport {
  int64_t prompt_tokens = 0;    ///< of all prompts, each counted for itself
  int64_t computed_tokens = 0;  ///< of the forest: what was computed of them, and of completions that had to leave
  int64_t completion_tokens = 0;
  int64_t paused = 0;     ///< times that a completion left for others' rows, to be computed again
  int64_t most_rows = 0;  ///< keys kept at once, rooms for completions among them
  double kv_gib = 0;      ///< their keys and values, on the rank that holds most
  /// Probability that top_k, top_p and min_p took from the draws, added up over tokens.
  double truncated_mass = 0;
  /// Of steps that computed rows of prompts, perhaps beside completions' next ones; of the others.
  double prefill_seconds = 0, decode_seconds = 0;
  /// Of either, with fewer than half as many completions in flight as there may be, or as there are in all.
  double tail_seconds = 0;
  FlexReport flex = {};
  int64_t kept_keys = 0, all_keys = 0;  ///< of what prefix_kv chose from, on this rank: a key a layer
  /// Prompts that it chose keys of, and of each layer of the model the sum of the shares that it dropped of them.
  int64_t chosen_prompts = 0;
  std::vector<double> dropped = {};
  double kept_key_share() const {
    return all_keys == 0 ? 1 : static_cast<double>(kept_keys) / static_cast<double>(all_keys);
  }
  GenerationReport& operator+=(const GenerationReport& other);
};

/// Told after each step how many of all completions are finished, and how many tokens there are.
using Progress = std::function<void(int64_t finished, int64_t tokens)>;

/// What generate would throw about its arguments, on a rank that will generate for some of the prompts only. The most
/// rows of keys and values that kv_gib has room for. Collective over pp.
int64_t check_prompts(const Stages& stages, std::span<const std::vector<int32_t>> prompts,
                      const SamplingOptions& options);

/// [prompts][num_generations], the same on all of the model's ranks, which call it together with the same arguments.
/// Completion i of prompt p is draw (first_prompt + p) * num_generations + i. A language model on the CPU or on GPUs.
/// Throws ConfigError for options that make no sense, a stop token that the vocabulary has not, or a kv_gib that one
/// prompt's completions do not fit; DataError for an empty prompt, a token that the model has not, or a prompt with
/// which max_completion_length tokens exceed the positions that it has. With flex_prefill or prefix_kv also ConfigError
/// for both at once and for a model that is not on the CPU or sees more than its tokens (prefix tuning, NTK-Attention);
/// with flex_prefill for a prompt whose log-probs it changes by more than max_error. With batch_invariant for a GPU,
/// other dtypes, adapters, 4 bits and either of the two.
std::vector<std::vector<Completion>> generate(const Stages& stages, std::span<const std::vector<int32_t>> prompts,
                                              const SamplingOptions& options, uint64_t first_prompt = 0,
                                              GenerationReport* report = nullptr, const Progress& progress = {});

}  // namespace fpdist::generate
