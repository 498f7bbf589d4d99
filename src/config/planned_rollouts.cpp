#include "src/config/planned_rollouts.hpp"

#include <algorithm>
#include <span>

#include "src/config/hybrids.hpp"
#include "src/core/index.hpp"

namespace fpdist::config {
namespace {

/// Rows of these prompts, what they share with others once.
int64_t distinct_rows(std::span<const std::vector<int32_t>> all) {
  std::vector<const std::vector<int32_t>*> prompts;
  for (const std::vector<int32_t>& one : all) prompts.push_back(&one);
  std::ranges::sort(prompts, [](const auto* a, const auto* b) { return *a < *b; });
  int64_t rows = 0;
  for (size_t p = 0; p < prompts.size(); ++p) {
    rows += std::ssize(*prompts[p]);
    if (p > 0) rows -= std::ranges::mismatch(*prompts[p - 1], *prompts[p]).in1 - prompts[p - 1]->begin();
  }
  return rows;
}

/// Keys and values of the replica that has most of them, each having its part of the prompts, in order.
RolloutMemory most_keys(std::span<const std::vector<int32_t>> prompts, const generate::SamplingOptions& sampling,
                        const Settled& job) {
  const size_t replicas = index(job.config.parallel.dp * job.config.parallel.cp), count = prompts.size();
  RolloutMemory most{.length = sampling.max_completion_length};
  for (size_t replica = 0; replica < replicas; ++replica) {
    const size_t begin = count * replica / replicas;
    const auto own = prompts.subspan(begin, count * (replica + 1) / replicas - begin);
    if (own.empty()) continue;
    int64_t longest = 0;
    for (const std::vector<int32_t>& prompt : own) longest = std::max(longest, std::ssize(prompt));
    const int64_t each = sampling.num_generations, of_all = std::ssize(own) * each;
    // Prompts enter whole.
    const int64_t completions = std::min(of_all, std::max(sampling.max_num_seqs, each));
    const int64_t rows = std::min(distinct_rows(own), (completions + each - 1) / each * longest);
    const int64_t bytes = (rows + completions * most.length) * bytes_per_row(job);
    if (bytes > most.keys) most.completions = completions, most.prompt_rows = rows, most.keys = bytes;
  }
  if (sampling.kv_gib > 0) most.keys = std::min(most.keys, static_cast<int64_t>(sampling.kv_gib * 0x1p30));
  return most;
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

std::vector<data::Group> longest_rollouts(const std::vector<data::PromptRow>& prompts, const RolloutRounds& rounds,
                                          const Config& config, int64_t step) {
  const std::vector<int64_t> of_round = rounds.prompts_of(rounds.round_of(step));
  const generate::RolloutOptions& rollout = config.rollout;
  const int64_t first_step = rounds.first_step_of(rounds.round_of(step));
  const auto length = index(rollout.max_completion_length);
  std::vector<data::Group> groups;
  for (int64_t at = rounds.place_of(step); at < rounds.place_of(step) + config.train.groups_per_step; ++at) {
    const int64_t place = of_round[index(at)];
    const data::PromptRow& row = prompts[index(place)];
    data::Group& group = groups.emplace_back();
    group.id = std::ssize(groups) - 1;
    const int64_t prefix = rollout.num_hybrids == 0 ? 0 : prefix_length(row, place, first_step, rollout);
    for (int64_t i = 0; i < rollout.num_generations; ++i) {
      data::Sample& sample = group.sample.emplace_back();
      sample.prefix_length = static_cast<int32_t>(i < rollout.num_generations - rollout.num_hybrids ? 0 : prefix);
      sample.token = begun(row, sample.prefix_length);
      // No token, and no other's: of a prompt that comes twice neither.
      sample.token.resize(sample.token.size() + length, -1 - static_cast<int32_t>(at * rollout.num_generations + i));
      sample.prompt_length = static_cast<int32_t>(row.token.size());
      sample.target.assign(row.token.size(), data::kIgnore);
      sample.target.resize(sample.token.size(), 0);
    }
  }
  return groups;
}

RolloutMemory rollout_memory(const RolloutInputs& inputs, const RolloutRounds& rounds, const Settled& job,
                             int64_t weights) {
  const generate::RolloutOptions& rollout = job.config.rollout;
  std::vector<std::vector<int32_t>> plain, hybrid, evaluated;  // which are completed one after the other
  for (const int64_t place : rounds.prompts_of(0)) {
    const data::PromptRow& row = inputs.prompts[index(place)];
    plain.push_back(row.token);
    if (rollout.num_hybrids > 0)
      hybrid.push_back(begun(row, prefix_length(row, place, rounds.first_step_of(0), rollout)));
  }
  for (const data::PromptRow& row : inputs.evaluated) evaluated.push_back(row.token);
  RolloutMemory most = most_keys(plain, plain_sampling(inputs.sampling, rollout.num_hybrids), job);
  for (const RolloutMemory& also : {most_keys(hybrid, hybrid_sampling(inputs.sampling, rollout.num_hybrids), job),
                                    most_keys(evaluated, inputs.evaluation, job)})
    if (also.keys > most.keys) most = also;
  if (job.config.model.device != "cuda" && job.config.model.dtype == DType::kFloat32) most.packed_weights = weights;
  return most;
}

}  // namespace fpdist::config
