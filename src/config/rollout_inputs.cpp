#include "src/config/rollout_inputs.hpp"

#include <algorithm>
#include <iterator>

#include "fpdist/core/error.hpp"
#include "fpdist/rewards/rewards.hpp"
#include "src/config/hybrids.hpp"
#include "src/config/model_size.hpp"
#include "src/config/stop_tokens.hpp"
#include "src/core/index.hpp"
#include "src/generate/asked.hpp"
#include "src/generate/kv_profile.hpp"

namespace fpdist::config {
namespace {

using Prompts = std::vector<data::PromptRow>;

constexpr uint64_t kEvaluationStream = 0x65766131;  // draws that no rollout has

Prompts read(const data::PromptFiles& files, data::Tokenizer& tokenizer) {
  if (files.path.empty()) return {};
  return data::read_prompts(files, tokenizer);
}

generate::SamplingOptions evaluation_sampling(const Settled& job, const generate::SamplingOptions& rollout) {
  generate::SamplingOptions sampling = rollout;
  const generate::EvalOptions& eval = job.config.eval;
  sampling.num_generations = eval.num_generations, sampling.temperature = eval.temperature;
  if (eval.max_completion_length > 0) sampling.max_completion_length = eval.max_completion_length;
  sampling.seed = rollout.seed ^ kEvaluationStream;
  sampling.flex_prefill = job.config.flex_prefill;
  sampling.prefix_kv = {.budget = eval.kv_budget, .start_size = eval.kv_start_size, .distance = eval.kv_distance};
  if (!eval.kv_profile.empty()) generate::read_kv_profile(eval.kv_profile, job.model, sampling.prefix_kv);
  return sampling;
}

/// Throws as what it asks does, with the prompts' key ahead.
void check_set(const Settled& job, const PromptSet& set) {
  generate::check_model(job.model, job.config.model.device != "cuda", set.sampling);
  try {
    generate::check_prompts(job.model, set.prompts, set.sampling, bytes_per_row(job));
  } catch (const DataError& error) {
    throw DataError(set.key + ": " + error.what());
  } catch (const ConfigError& error) {
    throw ConfigError(set.key + ": " + error.what());
  }
}

/// `prompts`: of rollouts.
void check_packs(const Prompts& prompts, const Config& config) {
  int64_t longest = 0;
  for (const data::PromptRow& row : prompts)
    longest =
        std::max(longest, config.rollout.num_hybrids > 0 ? std::ssize(longest_begun(row)) : std::ssize(row.token));
  const int64_t most = longest + config.rollout.max_completion_length;
  check<ConfigError>(most <= config.pack.max_tokens, "the longest prompt",
                     config.rollout.num_hybrids > 0 ? " with all but the end of its demonstration has " : " has ",
                     longest, " tokens; with rollout.max_completion_length ", config.rollout.max_completion_length,
                     " more a sample does not fit into pack.max_tokens ", config.pack.max_tokens,
                     ": pack.max_tokens: ", most, " holds it");
}

}  // namespace

RolloutInputs read_rollout_inputs(const Settled& job, data::Tokenizer& tokenizer) {
  const Config& config = job.config;
  const auto& columns = config.data.columns;
  RolloutInputs inputs{
      .prompts = read({.path = config.rollout.prompts,
                       .columns = columns,
                       .key = "rollout.prompts",
                       .demonstrations = config.rollout.num_hybrids > 0},
                      tokenizer),
      .evaluated = read({.path = config.data.eval_path, .columns = columns, .key = "data.eval_path"}, tokenizer),
      .sampling = config.rollout,
      .evaluation = {}};
  complete_stops(inputs.sampling, config.model.path, tokenizer);
  inputs.evaluation = evaluation_sampling(job, inputs.sampling);
  return inputs;
}

void check_rewards(const Config& config, size_t own) {
  const rewards::RewardOptions& reward = config.reward;
  check<ConfigError>(!reward.functions.empty() || !reward.command.empty() || own > 0,
                     "rollout.prompts is given and nothing says what a completion is worth: name reward.functions or a "
                     "reward.command (or call Trainer::set_reward)");
  rewards::check_rewards(reward, config.rollout.max_completion_length);
}

std::vector<PromptSet> prompt_sets(const Settled& job, const RolloutInputs& inputs) {
  std::vector<PromptSet> all;
  const auto add = [&](const char* key, const Prompts& prompts, const generate::SamplingOptions& sampling,
                       std::vector<int32_t> (*tokens_of)(const data::PromptRow&)) {
    if (prompts.empty()) return;
    PromptSet& set = all.emplace_back(PromptSet{.key = key, .prompts = {}, .sampling = sampling});
    std::ranges::transform(prompts, std::back_inserter(set.prompts), tokens_of);
  };
  const auto plain = [](const data::PromptRow& row) { return row.token; };
  const int64_t hybrids = job.config.rollout.num_hybrids;
  add("rollout.prompts", inputs.prompts, plain_sampling(inputs.sampling, hybrids), plain);
  if (hybrids > 0) add("rollout.prompts", inputs.prompts, hybrid_sampling(inputs.sampling, hybrids), longest_begun);
  add("data.eval_path", inputs.evaluated, inputs.evaluation, plain);
  return all;
}

void check_rollouts(const Settled& job, const RolloutInputs& inputs) {
  const arch::Adapter& adapter = job.model.adapter;
  check<ConfigError>(adapter.prefix.row_tokens() == 0, "adapter.type is ", job.config.adapter.type,
                     job.config.adapter.prefix_by == "none" ? "" : " by " + job.config.adapter.prefix_by,
                     ": rollouts behind rows of virtual tokens are not there yet; behind one prefix of keys they are "
                     "(prefix_tuning)");
  for (const PromptSet& set : prompt_sets(job, inputs)) check_set(job, set);
  check_packs(inputs.prompts, job.config);
}

int64_t bytes_per_row(const Settled& job) {
  const plan::ParallelOptions& parallel = job.config.parallel;
  std::vector<int64_t> layers(index(parallel.pp));
  for (size_t run = 0; run < parallel.layers.size(); ++run) layers[run % layers.size()] += parallel.layers[run];
  return 2 * std::ranges::max(layers) * context_heads(job.model, parallel.tp).key * job.model.shape().head_dim *
         bytes_of(job.config.model.dtype);
}

}  // namespace fpdist::config
