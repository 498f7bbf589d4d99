#include "fpdist/generate/options.hpp"

#include <array>
#include <cmath>

#include "fpdist/core/error.hpp"
#include "src/core/key.hpp"

namespace fpdist::generate {
namespace {

constexpr Valid kShare{
    .values = "0 to 1", .must = "above 0 and 1 at most", .accepts = [](double x) { return x > 0 && x <= 1; }};
constexpr Valid kPart{
    .values = "0 to 1", .must = "between 0 and 1", .accepts = [](double x) { return x >= 0 && x <= 1; }};

constexpr Valid kSchedule{.values = "DECAY,FIRST[,LAST[,STEPS[,...]]]"};

void check_pass_at(const Valid&, const Field& field, Complaints& complaints) {
  for (const int64_t k : *std::get<Integers*>(field))
    if (k < 1) complaints.push_back(text(" has ", k, "; of how many completions one must be right is 1 or more"));
}

void check_texts(const Valid&, const Field& field, Complaints& complaints) {
  for (const std::string& one : *std::get<Texts*>(field))
    if (one.empty()) complaints.push_back(" has an empty text, which ends every completion: leave it out");
}

}  // namespace

std::span<const Key> RolloutOptions::keys() {
  using Options = RolloutOptions;
  static constexpr std::array kKeys{
      FPDIST_KEY(prompts, "JSONL files of prompts: grpo completes them itself, in the place of data.path"),
      FPDIST_KEY(num_generations, "completions of each prompt", kFromOne),
      FPDIST_KEY(max_completion_length, "tokens of a completion, the stop token among them", kFromOne),
      FPDIST_KEY(temperature, "of the draws, and of the loss's log-probs", kAboveZero),
      FPDIST_KEY(top_k, "only the k likeliest tokens; 0: off", kFromZero),
      FPDIST_KEY(top_p, "only the likeliest tokens whose sum first reaches p; 1: off", kShare),
      FPDIST_KEY(min_p, "only tokens of at least p times the likeliest's probability; 0: off", kPart),
      FPDIST_KEY(repetition_penalty, "of tokens that are there already; 1: off", kAboveZero),
      FPDIST_KEY(stop_token_ids, "tokens that end a completion, beside the model's and the tokenizer's"),
      FPDIST_KEY(stop, "texts that end a completion, within, across and at the end of tokens",
                 Valid{.check = check_texts}),
      FPDIST_KEY(steps_per_generation, "optimizer steps that share one round's prompts", kFromOne),
      FPDIST_KEY(num_iterations, "times that a round's steps go through its rollouts", kFromOne),
      FPDIST_KEY(old_logps, "log-probs that ratios compare with: auto is none, or recompute where a round has steps",
                 Valid{.values = "auto | recompute | sampled", .check = check_one_of}),
      FPDIST_KEY(num_hybrids, "Prefix-RFT: of num_generations, those behind the beginning of a demonstration",
                 kFromZero),
      FPDIST_KEY(prefix_low, "a bound of the share of a demonstration, by steps: as configs/README.md says", kSchedule),
      FPDIST_KEY(prefix_high, "the other bound", kSchedule),
      FPDIST_KEY(prefix_alpha, "of the Beta distribution between the bounds; 1 and 1: uniform", kAboveZero),
      FPDIST_KEY(prefix_beta, "the same", kAboveZero),
      FPDIST_KEY(prefix_min_tokens, "of each demonstration at least, never all of it", kFromOne),
      FPDIST_KEY(log_completions, "write completions and rewards to completions/step-<n>.jsonl"),
      FPDIST_KEY(max_num_seqs, "completions that are decoded together", kFromOne),
      FPDIST_KEY(max_num_batched_tokens, "rows that are computed together", kFromOne),
      FPDIST_KEY(kv_gib, "GiB of a rank for keys and values; 0: as max_num_seqs alone decides", kFromZero),
      FPDIST_KEY(batch_invariant, "the same bits whatever else is generated: on the CPU, float32 and bfloat16"),
      FPDIST_KEY(seed, "of the draws")};
  return kKeys;
}

std::span<const Key> FlexPrefillOptions::keys() {
  using Options = FlexPrefillOptions;
  static constexpr std::array kKeys{
      FPDIST_KEY(gamma, "long prompts of evaluations see key blocks of this share of their attention; 0: all", kPart),
      FPDIST_KEY(tau, "heads with less divergence choose for each block of queries; 0: none does", kPart),
      FPDIST_KEY(min_budget, "keys that a head keeps at least", kFromZero),
      FPDIST_KEY(max_budget, "keys that its lines keep at most; 0: any number", kFromZero),
      FPDIST_KEY(block_size, "queries and keys of a block", kFromOne),
      FPDIST_KEY(window, "queries that choose together, a multiple of block_size", kFromOne),
      FPDIST_KEY(min_tokens, "shorter prompts see all their keys", kFromOne),
      FPDIST_KEY(check_prompts, "prompts that are computed with all keys too, to report what was lost", kFromZero),
      FPDIST_KEY(max_error, "mean difference of their log-probs at which to stop, in nats", kAboveZero)};
  return kKeys;
}

std::span<const Key> EvalOptions::keys() {
  using Options = EvalOptions;
  static constexpr std::array kKeys{
      FPDIST_KEY(num_generations, "completions of each prompt of data.eval_path", kFromOne),
      FPDIST_KEY(temperature, "0: the likeliest token", kFromZero),
      FPDIST_KEY(pass_at, "k of eval_pass@k", Valid{.values = ">= 1", .check = check_pass_at}),
      FPDIST_KEY(max_completion_length, "tokens of a completion; 0: as rollout.max_completion_length", kFromZero),
      FPDIST_KEY(kv_budget, "share of a prompt's keys that layers keep behind it; 1: all", kShare),
      FPDIST_KEY(kv_start_size, "its first keys that stay in any case", kFromZero),
      FPDIST_KEY(kv_distance, "so many before its last one a completion's keys go as it grows", kFromOne),
      FPDIST_KEY(kv_profile, "file of shares that layers drop of every prompt's keys (fpdist_generate makes one)")};
  return kKeys;
}

void check_together(const FlexPrefillOptions& options) {
  check<ConfigError>(options.block_size < 1 || options.window % options.block_size == 0, "flex_prefill.window ",
                     options.window, " is no multiple of flex_prefill.block_size ", options.block_size);
  check<ConfigError>(options.max_budget == 0 || options.max_budget >= options.min_budget, "flex_prefill.max_budget is ",
                     options.max_budget, " and flex_prefill.min_budget ", options.min_budget,
                     ": give a larger one, or 0 for any number");
}

void check_options(const SamplingOptions& options) {
  FlexPrefillOptions flex = options.flex_prefill;  // keys hand out what could be written to
  for (const Key& key : FlexPrefillOptions::keys())
    for (const std::string& complaint : complaints_of(key, &flex))
      throw ConfigError(text("flex_prefill.", key.name, complaint));
  check_together(flex);
  const PrefixKvOptions& kv = options.prefix_kv;
  EvalOptions eval{.kv_budget = kv.budget, .kv_start_size = kv.start_size, .kv_distance = kv.distance};
  for (const Key& key : EvalOptions::keys())
    for (const std::string& complaint : complaints_of(key, &eval))
      throw ConfigError(text("eval.", key.name, complaint));
  check<ConfigError>(!kv.is_on() || !flex.is_on(), "eval.kv_budget ", kv.budget, " and flex_prefill.gamma ", flex.gamma,
                     ": what a prompt's rows did not look at does not say what its keys are worth; keep one");
  const auto at_least = [](const char* name, int64_t value, int64_t least) {
    check<ConfigError>(value >= least, "rollout.", name, " is ", value, "; it must be ", least, " or more");
  };
  const auto between = [](const char* name, double value, bool is_there, const char* range) {
    check<ConfigError>(is_there && std::isfinite(value), "rollout.", name, " is ", value, "; it must be ", range);
  };
  at_least("num_generations", options.num_generations, 1);
  at_least("max_completion_length", options.max_completion_length, 1);
  at_least("top_k", options.top_k, 0);
  at_least("max_num_seqs", options.max_num_seqs, 1);
  at_least("max_num_batched_tokens", options.max_num_batched_tokens, 1);
  for (const std::string& one : options.stop)
    check<ConfigError>(!one.empty(), "rollout.stop has an empty text, which ends every completion: leave it out");
  check<ConfigError>(options.stop.empty() || options.token_bytes != nullptr,
                     "rollout.stop looks for texts, and no bytes of tokens are given: set token_bytes to what the "
                     "tokenizer's token_bytes() says, or name stop_token_ids");
  between("temperature", options.temperature, options.temperature >= 0, "0 (the likeliest token) or more");
  between("top_p", options.top_p, options.top_p > 0 && options.top_p <= 1, "above 0 and at most 1");
  between("min_p", options.min_p, options.min_p >= 0 && options.min_p <= 1, "between 0 and 1");
  between("kv_gib", options.kv_gib, options.kv_gib >= 0, "0 (no limit) or more");
  between("repetition_penalty", options.repetition_penalty, options.repetition_penalty > 0, "above 0 (1: none)");
}

}  // namespace fpdist::generate
