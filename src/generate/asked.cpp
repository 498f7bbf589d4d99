#include "src/generate/asked.hpp"

#include <algorithm>
#include <limits>

#include "fpdist/core/error.hpp"
#include "src/generate/spacing.hpp"

namespace fpdist::generate {
namespace {

/// What keeps the bits of a row from what is computed beside it.
void check_invariance(const arch::Model& model, const SamplingOptions& options) {
  check<ConfigError>(!options.flex_prefill.is_on() && !options.prefix_kv.is_on(),
                     "rollout.batch_invariant is for all keys: leave it out, or flex_prefill.gamma and eval.kv_budget");
  check<ConfigError>(!model.adapter.is_there() && !model.quantization,
                     "rollout.batch_invariant is for models without adapter and quantization: what they add rounds by "
                     "the batch; leave out one of the two");
}

void check_prefix_kv(const arch::Model& model, bool is_on_cpu, const PrefixKvOptions& options) {
  const bool has_profile = !options.dropped.empty();
  check_plain_model(model, is_on_cpu, has_profile ? "eval.kv_profile" : "eval.kv_budget", has_profile ? "\"\"" : "1");
  check<ConfigError>(!has_profile || std::ssize(options.dropped) == model.layer_count(),
                     "the profile of keys that layers drop has ", options.dropped.size(), " layers, and the model ",
                     model.layer_count(), ": make one with this model");
}

}  // namespace

void check_plain_model(const arch::Model& model, bool is_on_cpu, const std::string& key, const char* off) {
  check<ConfigError>(is_on_cpu, key, " is there on the CPU only: set ", key, ": ", off, " or model.device: cpu");
  const arch::Adapter& adapter = model.adapter;
  check<ConfigError>(!adapter.prefix.is_there() && !adapter.has_ntk, key,
                     " looks at the keys of tokens only, and this model's adapter adds to them (a trained prefix, "
                     "NTK-Attention): set ",
                     key, ": ", off);
}

void check_model(const arch::Model& model, bool is_on_cpu, const SamplingOptions& options) {
  check_options(options);
  if (options.batch_invariant) check_invariance(model, options);
  for (const int64_t stop : options.stop_token_ids)
    check<ConfigError>(stop >= 0 && stop < model.vocab_size, "rollout.stop_token_ids: ", stop,
                       " is no token of a vocabulary of ", model.vocab_size);
  if (options.flex_prefill.is_on()) check_plain_model(model, is_on_cpu, "flex_prefill.gamma", "0");
  if (options.prefix_kv.is_on()) check_prefix_kv(model, is_on_cpu, options.prefix_kv);
}

int64_t most_rows(int64_t bytes_per_row, const SamplingOptions& options) {
  constexpr double kMost = std::numeric_limits<int32_t>::max();
  if (options.kv_gib == 0) return static_cast<int64_t>(kMost);
  return static_cast<int64_t>(std::min(options.kv_gib * 0x1p30 / static_cast<double>(bytes_per_row), kMost));
}

void check_prompts(const arch::Model& model, std::span<const std::vector<int32_t>> prompts,
                   const SamplingOptions& options, int64_t bytes_per_row) {
  const int64_t rows = most_rows(bytes_per_row, options), positions = model.positions();
  for (size_t p = 0; p < prompts.size(); ++p) {
    check<DataError>(!prompts[p].empty(), "prompt ", p + 1, " is empty: a completion needs a token to follow");
    for (const int32_t token : prompts[p])
      check<DataError>(token >= 0 && token < model.vocab_size, "prompt ", p + 1, ": ", token,
                       " is no token of a vocabulary of ", model.vocab_size);
    const int64_t most = std::ssize(prompts[p]) + options.max_completion_length;
    check<DataError>(most <= positions, "prompt ", p + 1, " has ", prompts[p].size(),
                     " tokens; with rollout.max_completion_length ", options.max_completion_length, " more it is of ",
                     most, ", and the model has positions for ", positions, " (max_position_embeddings)");
    const int64_t needed = places_alone(prompts[p], options);
    check<ConfigError>(needed <= rows, "prompt ", p + 1, " with its ", options.num_generations,
                       " completions of up to ", options.max_completion_length, " tokens needs ", needed,
                       " rows of keys and values; rollout.kv_gib ", options.kv_gib, " holds ", rows, ": give ",
                       static_cast<double>(needed * bytes_per_row) * 0x1p-30, " or more, or fewer completions");
  }
}

}  // namespace fpdist::generate
