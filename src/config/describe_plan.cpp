// --plan: what a job would do, from the data and the config alone. No weights, no ranks, no training.

#include "src/config/describe_plan.hpp"

#include <algorithm>
#include <functional>
#include <memory>
#include <vector>

#include "fpdist/config/settled.hpp"
#include "fpdist/core/error.hpp"
#include "fpdist/data/loader.hpp"
#include "fpdist/loss/spec.hpp"
#include "fpdist/plan/step_plan.hpp"
#include "src/config/check_data.hpp"
#include "src/config/computed_groups.hpp"
#include "src/config/hybrids.hpp"
#include "src/config/model_size.hpp"
#include "src/config/planned_rollouts.hpp"
#include "src/config/read_data.hpp"
#include "src/config/remarks.hpp"
#include "src/config/rollout_inputs.hpp"
#include "src/config/run_length.hpp"
#include "src/core/words.hpp"
#include "src/plan/figures/step_volume.hpp"

namespace fpdist::config {
namespace {

/// Which ranks stand where: a line a pipeline stage of a replica, cp across, tp in brackets.
std::string rank_map(const MeshShape& mesh) {
  std::string lines;
  for (int dp = 0; dp < mesh.dp; ++dp)
    for (int pp = 0; pp < mesh.pp; ++pp) {
      std::string ranks;
      for (int cp = 0; cp < mesh.cp; ++cp) {
        ranks += cp ? " [" : "[";
        for (int tp = 0; tp < mesh.tp; ++tp) ranks += text(tp ? " " : "", rank_of({dp, pp, cp, tp}, mesh));
        ranks += "]";
      }
      if (lines.size() < 2000) lines += text("  replica ", dp, " stage ", pp, "  ", ranks, "\n");
    }
  return lines;
}

std::string layer_map(const plan::ParallelOptions& parallel) {
  if (parallel.pp == 1) return "";
  std::string layers;
  for (const int64_t run : parallel.layers) layers += text(layers.empty() ? "" : ",", run);
  return text("schedule           ", plan::name_of(parallel.schedule), ", layers ", layers, "\n");
}

std::string what_is_trained(const arch::Adapter& adapter) {
  if (adapter.has_ntk) return "of NTK-Attention";
  const arch::Prefix& prefix = adapter.prefix;
  if (!prefix.is_there()) return text("beside ", adapter.linear.size(), " linears");
  const std::string tokens = prefix.trains == arch::Prefix::Trains::kEmbeddings
                                 ? text(prefix.tokens, " virtual tokens' embeddings")
                                 : text("a prefix of ", prefix.tokens, " tokens");
  if (prefix.context_dim > 0) return text("of an MLP from ", prefix.context_dim, " numbers to ", tokens);
  return text("of ", tokens, prefix.values.empty() ? "" : text(" for each of ", prefix.values.size(), " sources"));
}

/// What of the weights is trained, where it is not all of them.
std::string adapter_line(const Settled& job, const plan::ModelBytes& bytes) {
  if (bytes.adapter < 0) return "";
  const int64_t ranks = job.config.parallel.pp * job.config.parallel.tp;
  return text("  of them trained  ", bytes_text(bytes.adapter / ranks * bytes.trained), " (",
              ranks > 1 ? "its share of " : "", bytes.adapter, " parameters ", what_is_trained(job.model.adapter),
              "), the rest is frozen\n");
}

/// What is planned.
struct Subject {
  std::string data, besides;  ///< in words; whole lines
  int64_t steps_per_epoch = 0;
  std::function<std::vector<data::Group>(int64_t step)> groups;
  std::function<RolloutMemory(int64_t weights)> rollouts = {};  ///< empty: none are made
};

Subject of_data(const Settled& job, LogSink& log) {
  const Config& config = job.config;
  const auto data =
      std::make_shared<const JobData>(read_job_data(config, job.model, MayWrite::kNo, Keep::kInMemory, log));
  check_packs(data->train, job);
  if (data->eval) check_evaluation_packs(*data->eval, job);
  const auto loader = std::make_shared<const data::Loader>(
      data::make_loader(data->train, config.data, config.train.groups_per_step, config.train.seed));
  remark(job, data->train, *loader, log);
  return {.data = text(data->train.group.size(), " groups"),
          .besides = data->eval ? text("evaluation         ", data->eval->size(), " groups\n") : "",
          .steps_per_epoch = loader->steps_per_epoch(),
          .groups = [data, loader](int64_t step) { return data::pick_groups(data->train, loader->step(step)); }};
}

std::string evaluation_line(const RolloutInputs& inputs) {
  if (inputs.evaluated.empty()) return "";
  const generate::SamplingOptions& sampling = inputs.evaluation;
  std::string line = text("evaluation         ", inputs.evaluated.size(), " prompts, ", sampling.num_generations,
                          " completions of each, of ", sampling.max_completion_length, " tokens at most");
  if (sampling.prefix_kv.is_on()) line += text("; layers keep ", percent(sampling.prefix_kv.budget), " of the keys");
  return line + "\n";
}

/// Of prompts that are there and completions that are not.
Subject of_rollouts(const Settled& job) {
  const Config& config = job.config;
  const generate::RolloutOptions& rollout = config.rollout;
  check_rewards(config);
  const std::unique_ptr<data::Tokenizer> tokenizer = tokenizer_of(config, job.model);
  const auto inputs = std::make_shared<const RolloutInputs>(read_rollout_inputs(job, *tokenizer));
  check_rollouts(job, *inputs);
  const std::vector<data::PromptRow>& prompts = inputs->prompts;
  const auto rounds = std::make_shared<const RolloutRounds>(config, std::ssize(prompts));
  return {
      .data = text(prompts.size(), " prompts, ", rollout.num_generations, " completions of each, ",
                   hybrids_text(config), rounds->prompts_in_round(), " prompts a round"),
      .besides = text("lengths            prompts as they are, every completion of ", rollout.max_completion_length,
                      " tokens: at most what rollouts come to\n", evaluation_line(*inputs)),
      .steps_per_epoch = rounds->steps_per_epoch(),
      .groups = [&config, inputs,
                 rounds](int64_t step) { return longest_rollouts(inputs->prompts, *rounds, config, step); },
      .rollouts = [&job, inputs, rounds](int64_t weights) { return rollout_memory(*inputs, *rounds, job, weights); }};
}

/// What the planned steps come to.
struct Volume {
  int64_t logical = 0, computed = 0, packs = 0, most_packs = 0, largest = 0, busiest = 0, cost = 0;
};

Volume volume_of(const Settled& job, int64_t steps,
                 const std::function<std::vector<data::Group>(int64_t step)>& groups_of) {
  const Config& config = job.config;
  Volume volume;
  for (int64_t step = 0; step < steps; ++step) {
    const auto groups = computed_groups(groups_of(step), job, step + 1);
    const plan::StepPlan plan = plan::make_step_plan(groups, loss::spec_of(config.method, config.loss).atomic(),
                                                     config.parallel, job.costs, config.pack);
    volume.logical += plan.totals.tokens_logical, volume.computed += plan.totals.tokens_computed;
    int64_t busiest_now = 0;
    for (const auto& replica : plan.replica) {
      int64_t of_replica = 0;
      for (const plan::PackPlan& pack : replica)
        of_replica += pack.cost, volume.largest = std::max(volume.largest, pack.rows);
      volume.packs += std::ssize(replica), volume.most_packs = std::max(volume.most_packs, std::ssize(replica));
      volume.cost += of_replica, busiest_now = std::max(busiest_now, of_replica);
    }
    volume.busiest += busiest_now;
  }
  return volume;
}

std::string rollout_lines(const RolloutMemory& rollouts) {
  if (rollouts.total() == 0) return "";
  return text("  keys and values  ", bytes_text(rollouts.keys), " (", rollouts.completions, " completions of ",
              rollouts.length, " tokens behind ", rollouts.prompt_rows,
              " rows of prompts; ahead of a round's activations, not beside them)\n",
              rollouts.packed_weights > 0
                  ? text("  packed weights   ", bytes_text(rollouts.packed_weights), " (on the CPU, beside these)\n")
                  : "");
}

/// Of a rank, and what it consists of.
std::string memory_lines(const Settled& job, const Volume& volume, const Subject& subject) {
  const plan::ParallelOptions& mesh = job.config.parallel;
  const loss::Needs needs = loss::needs_of(job.config.method, job.config.loss);
  const int64_t weights = arch::parameter_count(job.model, needs.head);
  const int64_t quantized = arch::quantized_count(job.model);
  plan::ModelBytes bytes = model_bytes(job);
  bytes.has_reference = copies_reference(job);  // there for a while, if it is precomputed
  // A stage holds 1/pp of the layers of up to pp packs, if there are so many.
  const int64_t held =
      std::min<int64_t>(mesh.pp, volume.most_packs) * ((job.model.layer_count() + mesh.pp - 1) / mesh.pp);
  const plan::StageMemory memory = plan::rank_memory(
      bytes, mesh, {.all = weights / (mesh.pp * mesh.tp), .quantized = quantized / (mesh.pp * mesh.tp)},
      {.row_layers = volume.largest * held, .unit_rows = volume.largest});
  const int64_t policy = memory.weights / (bytes.has_reference ? 2 : 1);
  const RolloutMemory rollouts = subject.rollouts ? subject.rollouts(policy) : RolloutMemory();
  const int64_t total = memory.total() + std::max<int64_t>(0, rollouts.total() - memory.activations);
  return text("memory a rank      ", bytes_text(total), "\n", "  weights          ", bytes_text(policy), " (",
              mesh.pp * mesh.tp > 1 ? "its share of " : "", weights, " parameters",
              quantized > 0 ? text(", ", quantized, " of them in ", 8 * bytes.linear, " bits") : "", ")\n",
              bytes.has_reference ? text("  reference        ", bytes_text(policy), "\n") : "",
              adapter_line(job, bytes), "  main grads       ", bytes_text(memory.gradients), "\n",
              "  optimizer shard  ", bytes_text(memory.optimizer), "\n", rollout_lines(rollouts), "  activations      ",
              bytes_text(memory.activations), " (estimate, largest pack)");
}

}  // namespace

std::string describe_plan(const Config& given, int ranks, LogSink& log, const FitModel& fit) {
  Settled job = settle(given, ranks);
  check_trained(job);
  if (fit) fit(job.model);
  const Subject subject = job.config.rollout.prompts.empty() ? of_data(job, log) : of_rollouts(job);
  const int64_t length = steps_of(job.config.train, subject.steps_per_epoch);
  const int64_t steps = std::min({length, subject.steps_per_epoch, int64_t{16}});
  const Volume volume = volume_of(job, steps, subject.groups);
  const plan::ParallelOptions& mesh = job.config.parallel;
  const auto shown = [](auto part, auto of) { return static_cast<double>(part) / static_cast<double>(of); };
  return text("mesh               ", to_string(mesh), " (", ranks, " ranks)\n", rank_map(mesh), layer_map(mesh),
              "data               ", subject.data, ", ", subject.steps_per_epoch, " steps an epoch, ", length,
              " in all; the first ", steps, " planned\n", subject.besides, "tokens             ", volume.logical,
              " logical, ", volume.computed, " computed\n", "sharing ratio      ",
              shown(volume.logical, volume.computed), "\n", "packs              ", shown(volume.packs, steps),
              " a step, largest ", volume.largest, " of ", job.config.pack.max_tokens, " rows\n",
              "balance            busiest replica ", shown(volume.busiest * mesh.dp, volume.cost), " x the mean\n",
              memory_lines(job, volume, subject));
}

}  // namespace fpdist::config
