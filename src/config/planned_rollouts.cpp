#include "src/config/planned_rollouts.hpp"

#include <algorithm>

#include "fpdist/core/error.hpp"
#include "src/config/model_size.hpp"
#include "src/core/index.hpp"

namespace fpdist::config {
namespace {

/// Rows of these prompts, what they share with others once.
int64_t distinct_rows(std::vector<const std::vector<int32_t>*> prompts) {
  std::ranges::sort(prompts, [](const auto* a, const auto* b) { return *a < *b; });
  int64_t rows = 0;
  for (size_t p = 0; p < prompts.size(); ++p) {
    rows += std::ssize(*prompts[p]);
    if (p > 0) rows -= std::ranges::mismatch(*prompts[p - 1], *prompts[p]).in1 - prompts[p - 1]->begin();
  }
  return rows;
}

/// Bytes of one row's keys and values on a rank of the stage that has most layers.
int64_t bytes_per_row(const Settled& job) {
  const arch::ModelShape shape = job.model.shape();
  const plan::ParallelOptions& parallel = job.config.parallel;
  const int64_t layers = (shape.layers + parallel.pp - 1) / parallel.pp;
  return 2 * layers * context_heads(job.model, parallel.tp).key * shape.head_dim * bytes_of(job.config.model.dtype);
}

}  // namespace

RolloutRounds::RolloutRounds(const Config& config, int64_t prompts)
    : prompts_(prompts),
      a_step_(config.train.groups_per_step),
      steps_per_generation_(config.rollout.steps_per_generation),
      num_iterations_(config.rollout.num_iterations),
      order_(prompts, 1, config.train.seed, config.data.shuffle) {}

int64_t RolloutRounds::steps_per_epoch() const { return (prompts_ * num_iterations_ + a_step_ - 1) / a_step_; }

std::vector<int64_t> RolloutRounds::prompts_of(int64_t round) const {
  std::vector<int64_t> places;
  for (int64_t at = first_of(round); at < first_of(round + 1); ++at) places.push_back(order_.step(at).front());
  return places;
}

void check_rollout_packs(const std::vector<data::PromptRow>& prompts, const Config& config) {
  int64_t longest = 0;
  for (const data::PromptRow& row : prompts) longest = std::max<int64_t>(longest, std::ssize(row.token));
  const int64_t most = longest + config.rollout.max_completion_length;
  check<ConfigError>(most <= config.pack.max_tokens, "the longest prompt has ", longest,
                     " tokens; with rollout.max_completion_length ", config.rollout.max_completion_length,
                     " more a sample does not fit into pack.max_tokens ", config.pack.max_tokens,
                     ": pack.max_tokens: ", most, " holds it");
}

std::vector<data::Group> longest_rollouts(const std::vector<data::PromptRow>& prompts, const RolloutRounds& rounds,
                                          const Config& config, int64_t step) {
  const std::vector<int64_t> of_round = rounds.prompts_of(rounds.round_of(step));
  const auto length = index(config.rollout.max_completion_length);
  std::vector<data::Group> groups;
  for (int64_t at = rounds.place_of(step); at < rounds.place_of(step) + config.train.groups_per_step; ++at) {
    const std::vector<int32_t>& prompt = prompts[index(of_round[index(at)])].token;
    data::Group& group = groups.emplace_back();
    group.id = std::ssize(groups) - 1;
    for (int64_t i = 0; i < config.rollout.num_generations; ++i) {
      data::Sample& sample = group.sample.emplace_back();
      sample.token = prompt;
      // No token, and no other's: of a prompt that comes twice neither.
      sample.token.resize(prompt.size() + length, -1 - static_cast<int32_t>(at * config.rollout.num_generations + i));
      sample.prompt_length = static_cast<int32_t>(prompt.size());
      sample.target.assign(prompt.size(), data::kIgnore);
      sample.target.resize(sample.token.size(), 0);
    }
  }
  return groups;
}

RolloutMemory rollout_memory(const std::vector<data::PromptRow>& prompts, const RolloutRounds& rounds,
                             const Settled& job, int64_t weights) {
  const generate::RolloutOptions& rollout = job.config.rollout;
  const std::vector<int64_t> round = rounds.prompts_of(0);
  const size_t replicas = index(job.config.parallel.dp * job.config.parallel.cp);
  RolloutMemory most;
  for (size_t replica = 0; replica < replicas; ++replica) {
    std::vector<const std::vector<int32_t>*> own;
    int64_t longest = 0;
    for (size_t at = round.size() * replica / replicas; at < round.size() * (replica + 1) / replicas; ++at) {
      own.push_back(&prompts[index(round[at])].token);
      longest = std::max(longest, std::ssize(*own.back()));
    }
    const int64_t all = std::ssize(own) * rollout.num_generations;
    // Prompts enter whole.
    const int64_t completions = std::min(all, std::max(rollout.max_num_seqs, rollout.num_generations));
    const int64_t at_once = (completions + rollout.num_generations - 1) / rollout.num_generations;
    const int64_t rows = std::min(distinct_rows(own), at_once * longest);
    const int64_t bytes = (rows + completions * rollout.max_completion_length) * bytes_per_row(job);
    if (bytes > most.keys) most = {.completions = completions, .prompt_rows = rows, .keys = bytes};
  }
  if (rollout.kv_gib > 0) most.keys = std::min(most.keys, static_cast<int64_t>(rollout.kv_gib * 0x1p30));
  const bool packs = job.config.model.device != "cuda" && job.config.model.dtype == DType::kFloat32;
  if (packs && !rollout.batch_invariant) most.packed_weights = weights;
  return most;
}

}  // namespace fpdist::config
