// --plan: what a job would do, from the data and the config alone. No weights, no ranks, no training.

#include "src/config/describe_plan.hpp"

#include <algorithm>

#include "fpdist/config/settled.hpp"
#include "fpdist/core/error.hpp"
#include "fpdist/data/loader.hpp"
#include "fpdist/loss/spec.hpp"
#include "fpdist/plan/step_plan.hpp"
#include "src/config/check_data.hpp"
#include "src/config/computed_groups.hpp"
#include "src/config/model_size.hpp"
#include "src/config/read_data.hpp"
#include "src/config/remarks.hpp"
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

}  // namespace

std::string describe_plan(const Config& given, int ranks, LogSink& log, const FitModel& fit) {
  Settled job = settle(given, ranks);
  check_trained(job);
  if (fit) fit(job.model);
  const Config& config = job.config;
  const plan::ParallelOptions& mesh = config.parallel;
  const auto [dataset, eval] = read_job_data(config, job.model, MayWrite::kNo, Keep::kInMemory, log);
  check_packs(dataset, job);
  if (eval) check_evaluation_packs(*eval, job);
  const data::Loader loader = data::make_loader(dataset, config.data, config.train.groups_per_step, config.train.seed);
  remark(job, dataset, loader, log);
  const int64_t length = steps_of(config.train, loader.steps_per_epoch());
  const int64_t steps = std::min({length, loader.steps_per_epoch(), int64_t{16}});

  int64_t logical = 0, computed = 0, packs = 0, most_packs = 0, largest = 0, busiest = 0, cost = 0;
  for (int64_t step = 0; step < steps; ++step) {
    const auto groups = computed_groups(data::pick_groups(dataset, loader.step(step)), job, step + 1);
    const plan::StepPlan plan =
        plan::make_step_plan(groups, loss::spec_of(config.method, config.loss).atomic(), mesh, job.costs, config.pack);
    logical += plan.totals.tokens_logical, computed += plan.totals.tokens_computed;
    int64_t busiest_now = 0;
    for (const auto& replica : plan.replica) {
      int64_t of_replica = 0;
      for (const plan::PackPlan& pack : replica) of_replica += pack.cost, largest = std::max(largest, pack.rows);
      packs += std::ssize(replica), most_packs = std::max(most_packs, std::ssize(replica));
      cost += of_replica, busiest_now = std::max(busiest_now, of_replica);
    }
    busiest += busiest_now;
  }
  const loss::Needs needs = loss::needs_of(config.method, config.loss);
  const int64_t weights = arch::parameter_count(job.model, needs.head);
  const int64_t quantized = arch::quantized_count(job.model);
  plan::ModelBytes bytes = model_bytes(job);
  bytes.has_reference = copies_reference(job);  // there for a while, if it is precomputed
  // A stage holds 1/pp of the layers of up to pp packs, if there are so many.
  const int64_t held = std::min<int64_t>(mesh.pp, most_packs) * ((job.model.layer_count() + mesh.pp - 1) / mesh.pp);
  const plan::StageMemory memory = plan::rank_memory(
      bytes, mesh, {.all = weights / (mesh.pp * mesh.tp), .quantized = quantized / (mesh.pp * mesh.tp)},
      {.row_layers = largest * held, .unit_rows = largest});
  const int64_t policy = memory.weights / (bytes.has_reference ? 2 : 1);
  return text(
      "mesh               ", to_string(mesh), " (", ranks, " ranks)\n", rank_map(mesh), layer_map(mesh),
      "data               ", dataset.group.size(), " groups, ", loader.steps_per_epoch(), " steps an epoch, ", length,
      " in all; the first ", steps, " planned\n", eval ? text("evaluation         ", eval->size(), " groups\n") : "",
      "tokens             ", logical, " logical, ", computed, " computed\n", "sharing ratio      ",
      static_cast<double>(logical) / static_cast<double>(computed), "\n", "packs              ",
      static_cast<double>(packs) / static_cast<double>(steps), " a step, largest ", largest, " of ",
      config.pack.max_tokens, " rows\n", "balance            busiest replica ",
      static_cast<double>(busiest) * mesh.dp / static_cast<double>(cost), " x the mean\n", "memory a rank      ",
      bytes_text(memory.total()), "\n", "  weights          ", bytes_text(policy), " (",
      mesh.pp * mesh.tp > 1 ? "its share of " : "", weights, " parameters",
      quantized > 0 ? text(", ", quantized, " of them in ", 8 * bytes.linear, " bits") : "", ")\n",
      bytes.has_reference ? text("  reference        ", bytes_text(policy), "\n") : "", adapter_line(job, bytes),
      "  main grads       ", bytes_text(memory.gradients), "\n", "  optimizer shard  ", bytes_text(memory.optimizer),
      "\n", "  activations      ", bytes_text(memory.activations), " (estimate, largest pack)");
}

}  // namespace fpdist::config
