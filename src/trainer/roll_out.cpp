#include "src/trainer/roll_out.hpp"

#include <ATen/ATen.h>

#include <array>
#include <utility>

#include "fpdist/comm/slow_work.hpp"
#include "fpdist/core/error.hpp"
#include "fpdist/generate/generate.hpp"
#include "src/comm/agreement.hpp"
#include "src/core/checksum.hpp"
#include "src/core/index.hpp"
#include "src/generate/generate_part.hpp"
#include "src/trainer/gather_groups.hpp"
#include "src/trainer/replica.hpp"
#include "src/trainer/weights/load_model.hpp"

namespace fpdist::trainer {
namespace {

data::Sample sample_of(const std::vector<int32_t>& prompt, const generate::Completion& completion, bool keeps_logps) {
  data::Sample sample;
  sample.token = prompt;
  sample.token.insert(sample.token.end(), completion.token.begin(), completion.token.end());
  sample.prompt_length = static_cast<int32_t>(prompt.size());
  sample.target.assign(prompt.size(), data::kIgnore);
  sample.target.insert(sample.target.end(), completion.token.begin(), completion.token.end());
  if (keeps_logps) {
    sample.old_logp.assign(prompt.size(), 0.0);
    sample.old_logp.insert(sample.old_logp.end(), completion.logp.begin(), completion.logp.end());
  }
  sample.truncated = completion.finish_reason == generate::FinishReason::kLength;
  return sample;
}

/// Throws ConfigError on all ranks where their arguments differ.
void check_same(std::span<const std::vector<int32_t>> prompts, const generate::SamplingOptions& options,
                uint64_t first_prompt, comm::Communicator& world) {
  Checksum of_prompts, of_options;
  for (const std::vector<int32_t>& prompt : prompts) of_prompts.add(std::span(prompt));
  of_options.add(options.num_generations).add(options.max_completion_length).add(options.temperature);
  of_options.add(options.top_k).add(options.top_p).add(options.min_p).add(options.repetition_penalty);
  of_options.add(std::span(options.stop_token_ids)).add(options.seed).add(options.batch_invariant);
  for (const std::string& one : options.stop) of_options.add(std::span<const char>(one));
  const generate::FlexPrefillOptions& flex = options.flex_prefill;
  of_options.add(flex.gamma).add(flex.tau).add(flex.min_budget).add(flex.max_budget).add(flex.block_size);
  of_options.add(flex.window).add(flex.min_tokens).add(flex.check_prompts).add(flex.max_error);
  of_options.add(options.prefix_kv.budget).add(options.prefix_kv.start_size).add(options.prefix_kv.distance);
  of_options.add(std::span(options.prefix_kv.dropped));
  const std::vector<comm::Fact> facts{{"prompts", text(prompts.size(), ", checksum ", to_string(of_prompts.value()))},
                                      {"options", "checksum " + to_string(of_options.value())},
                                      {"first_prompt", text(first_prompt)}};
  const auto differences = comm::find_differences(facts, world);
  check<ConfigError>(differences.empty(), "the ranks are asked for different rollouts: ", comm::to_text(differences),
                     "; every rank gives the same prompts, and gets all completions");
}

/// Collective: sums of what a rank that speaks for its replica has counted (the replica's others have counted the
/// same) and of what each has of its layers and heads, the most of what any rank holds.
generate::GenerationReport of_all(const generate::GenerationReport& held, bool speaks, bool has_first_heads,
                                  comm::Communicator& world) {
  generate::GenerationReport mine = speaks ? held : generate::GenerationReport();
  mine.flex.kept_blocks = held.flex.kept_blocks, mine.flex.all_blocks = held.flex.all_blocks;
  mine.kept_keys = has_first_heads ? held.kept_keys : 0;  // a key of a layer is kept for all heads
  mine.all_keys = has_first_heads ? held.all_keys : 0;
  const auto fields = [](auto& all) {
    return std::array{&all.prompt_tokens,    &all.computed_tokens, &all.completion_tokens,    &all.paused,
                      &all.flex.kept_blocks, &all.flex.all_blocks, &all.flex.checked_prompts, &all.flex.checked_tokens,
                      &all.kept_keys,        &all.all_keys};
  };
  const auto seconds = [](auto& all) {
    return std::array{&all.prefill_seconds,     &all.decode_seconds,     &all.tail_seconds,
                      &all.truncated_mass,      &all.flex.all_seconds,   &all.flex.kept_seconds,
                      &all.flex.search_seconds, &all.flex.sum_difference};
  };
  std::vector<double> numbers;
  for (const int64_t* one : fields(mine)) numbers.push_back(static_cast<double>(*one));
  for (const double* one : seconds(mine)) numbers.push_back(*one);
  at::Tensor sums = at::tensor(numbers, at::kDouble);
  at::Tensor most =
      at::tensor({held.kv_gib, static_cast<double>(held.most_rows), held.flex.greatest_difference}, at::kDouble);
  world.all_reduce(sums);
  world.all_reduce(most, comm::ReduceOp::kMax);
  const double* next = sums.const_data_ptr<double>();
  for (int64_t* one : fields(mine)) *one = static_cast<int64_t>(*next++);
  for (double* one : seconds(mine)) *one = *next++;
  mine.kv_gib = most[0].item<double>(), mine.most_rows = static_cast<int64_t>(most[1].item<double>());
  mine.flex.greatest_difference = most[2].item<double>();
  return mine;
}

}  // namespace

void check_rollouts(const Job& job, const std::vector<std::unique_ptr<model::Transformer>>& runs,
                    std::span<const std::vector<int32_t>> prompts, const generate::SamplingOptions& options,
                    uint64_t first_prompt) {
  check<ConfigError>(job.model.adapter.prefix.row_tokens() == 0, "adapter.type is ", job.config.adapter.type,
                     job.config.adapter.prefix_by == "none" ? "" : " by " + job.config.adapter.prefix_by,
                     ": rollouts behind rows of virtual tokens are not there yet; behind one prefix of keys they are "
                     "(prefix_tuning)");
  check_same(prompts, options, first_prompt, job.mesh.world());
  generate::check_prompts(stages_of(job.mesh, runs), prompts, options);
}

std::vector<data::Group> roll_out(const Job& job, const std::vector<std::unique_ptr<model::Transformer>>& runs,
                                  std::span<const std::vector<int32_t>> prompts,
                                  const generate::SamplingOptions& options, uint64_t first_prompt,
                                  generate::GenerationReport* report, const RolledOut& finished) {
  check_rollouts(job, runs, prompts, options, first_prompt);
  const generate::Stages stages = stages_of(job.mesh, runs);
  // A run of the prompts for each that holds the model: which, no token depends on.
  const auto [begin, end] = part_of_replica(job.mesh, prompts.size());
  const bool speaks = speaks_for_replica(job.mesh);
  const auto own = prompts.subspan(begin, end - begin);
  // Behind a part of the keys is no policy that a loss could compare with.
  const bool sees_all = !options.flex_prefill.is_on() && !options.prefix_kv.is_on();
  const bool keeps_logps = sees_all && options.temperature == loss_temperature(job.config);
  std::vector<data::Group> groups;
  generate::GenerationReport here;
  {
    const comm::SlowWork slow(job.mesh.world(), "generating");
    const auto is_told = [&](size_t prompt, std::span<const generate::Completion* const> completions) {
      if (!takes_in_replica(job.mesh, prompt)) return;
      data::Group group;
      for (const generate::Completion* one : completions)
        group.sample.push_back(sample_of(prompts[prompt], *one, keeps_logps));
      finished(prompt, group);
    };
    const auto completions = generate::generate_part(stages, prompts, begin, end, options, first_prompt + begin, &here,
                                                     {}, finished ? generate::Finished(is_told) : generate::Finished());
    for (size_t p = 0; p < own.size() && speaks; ++p) {
      data::Group& group = groups.emplace_back();
      for (const generate::Completion& one : completions[p])
        group.sample.push_back(sample_of(own[p], one, keeps_logps));
    }
  }
  if (report) *report = of_all(here, speaks, job.mesh.at().tp == 0, job.mesh.world());
  return gather_groups(groups, job.mesh.world());
}

}  // namespace fpdist::trainer
