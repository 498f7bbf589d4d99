#include "src/main/generate/generators.hpp"

#include <ATen/ATen.h>

#include <utility>

#include "fpdist/checkpoint/hf_directory.hpp"
#include "fpdist/comm/slow_work.hpp"
#include "fpdist/config/settled.hpp"
#include "src/comm/gather_parts.hpp"
#include "src/generate/generate_part.hpp"
#include "src/trainer/job.hpp"
#include "src/trainer/replica.hpp"
#include "src/trainer/weights/load_model.hpp"

namespace fpdist::main_program {
namespace {

using Completions = std::vector<std::vector<generate::Completion>>;

/// `own` of every rank, rank after rank: tokens, log-probs and why they ended.
Completions gathered(const Completions& own, int64_t each, comm::Communicator& world) {
  std::vector<int64_t> numbers;
  std::vector<double> logps;
  for (const auto& of_prompt : own)
    for (const generate::Completion& one : of_prompt) {
      numbers.push_back(static_cast<int64_t>(one.finish_reason));
      numbers.push_back(static_cast<int64_t>(one.token.size()));
      numbers.insert(numbers.end(), one.token.begin(), one.token.end());
      logps.insert(logps.end(), one.logp.begin(), one.logp.end());
    }
  const auto parts = comm::gather_parts(at::tensor(numbers, at::kLong), world);
  const auto logp_parts = comm::gather_parts(at::tensor(logps, at::kDouble), world);
  const int64_t* number = parts.all.const_data_ptr<int64_t>();
  const int64_t* const end = number + parts.all.numel();
  const double* logp = logp_parts.all.const_data_ptr<double>();
  Completions all;
  while (number < end)
    for (int64_t i = 0; i < each; ++i) {
      if (i == 0) all.emplace_back();
      generate::Completion& one = all.back().emplace_back();
      one.finish_reason = static_cast<generate::FinishReason>(*number++);
      const int64_t tokens = *number++;
      for (int64_t t = 0; t < tokens; ++t) one.token.push_back(static_cast<int32_t>(*number++));
      one.logp.assign(logp, logp + tokens), logp += tokens;
    }
  return all;
}

/// Counts of the replicas, each told by one of its ranks, and the longest times.
void add_up(generate::GenerationReport& report, bool counts, comm::Communicator& world) {
  const int64_t once = counts ? 1 : 0;
  at::Tensor tokens = at::tensor({once * report.prompt_tokens, once * report.computed_tokens,
                                  once * report.completion_tokens, once * report.paused, once * report.chosen_prompts},
                                 at::kLong);
  at::Tensor seconds = at::tensor({report.prefill_seconds, report.decode_seconds}, at::kDouble);
  world.all_reduce(tokens, comm::ReduceOp::kSum);
  world.all_reduce(seconds, comm::ReduceOp::kMax);
  report.prompt_tokens = tokens[0].item<int64_t>(), report.computed_tokens = tokens[1].item<int64_t>();
  report.completion_tokens = tokens[2].item<int64_t>(), report.paused = tokens[3].item<int64_t>();
  report.chosen_prompts = tokens[4].item<int64_t>();
  at::Tensor dropped = at::tensor(report.dropped, at::kDouble).mul_(once);
  if (dropped.numel() > 0) world.all_reduce(dropped, comm::ReduceOp::kSum);
  report.dropped.assign(dropped.const_data_ptr<double>(), dropped.const_data_ptr<double>() + dropped.numel());
  report.prefill_seconds = seconds[0].item<double>(), report.decode_seconds = seconds[1].item<double>();
}

}  // namespace

Generators::Generators(comm::World& world, config::Settled settled, LogSink& log) : world_(world) {
  const config::Config& config = settled.config;
  device_ = comm::open_device(settled.config.model.device, world, settled.config.comm, log);
  mesh_ = std::make_unique<comm::Mesh>(world, settled.config.parallel, device_.get());
  if (!config.model.path.empty())
    trainer::fit_to_weights(settled.model, checkpoint::HfDirectory(config.model.path), Head::kLanguageModel, log);
  runs_ = trainer::load_model(settled.config, settled.model, *mesh_, device_->where());
}

void Generators::check_prompts(std::span<const std::vector<int32_t>> prompts,
                               const generate::SamplingOptions& sampling) const {
  generate::check_prompts(trainer::stages_of(*mesh_, runs_), prompts, sampling);
}

Completions Generators::complete(std::span<const std::vector<int32_t>> prompts, size_t begin, size_t end,
                                 const generate::SamplingOptions& sampling, generate::GenerationReport& report) {
  const generate::Stages stages = trainer::stages_of(*mesh_, runs_);
  const auto asked = prompts.subspan(begin, end - begin);
  const trainer::ReplicaPart own_part = trainer::part_of_replica(*mesh_, asked.size());
  const size_t first = begin + own_part.begin, last = begin + own_part.end;
  const comm::SlowWork slow(world_.communicator(), "generating");
  Completions own = generate::generate_part(stages, prompts, first, last, sampling, first, &report);
  if (world_.size() == 1) return own;
  const bool tells = trainer::speaks_for_replica(*mesh_);
  if (!tells) own.clear();
  add_up(report, tells, world_.communicator());
  return gathered(own, sampling.num_generations, world_.communicator());
}

}  // namespace fpdist::main_program
