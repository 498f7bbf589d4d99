#include "src/plan/figures/cluster_step.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

#include "src/core/index.hpp"
#include "src/plan/schedule/program.hpp"

namespace fpdist::plan {
namespace {

/// Operations of a cost unit: few enough that a pair of a small model is some, many enough that a step of a million
/// samples fits 63 bits.
constexpr double kUnitFlops = 64;

/// What is added to the model's own work.
struct Messages {
  bool tensor = true, context = true, pipeline = true;
};

struct StepPlaces {
  AxisPlace tp, cp, pp, sharers;
};

StepPlaces places_of(const ClusterJob& job) {
  const MeshShape& mesh = job.mesh;
  StepPlaces places{.tp = place_of(job.cluster, 1, mesh.tp),
                    .cp = place_of(job.cluster, mesh.tp, mesh.cp),
                    .pp = place_of(job.cluster, int64_t{mesh.tp} * mesh.cp, mesh.pp),
                    .sharers = {}};
  const AxisPlace dp = place_of(job.cluster, int64_t{mesh.tp} * mesh.cp * mesh.pp, mesh.dp);
  places.sharers = {mesh.dp * mesh.cp, places.cp.inside * (places.cp.inside == mesh.cp ? dp.inside : 1)};
  return places;
}

/// Seconds of bytes alone: latencies are counted by the operation, not by the row.
double bytes_seconds(Cluster cluster, const AxisPlace& place, double bytes) {
  cluster.node_latency = cluster.network_latency = 0;
  return gather_seconds(cluster, place, bytes);
}

double units(const ClusterJob& job, double seconds) { return seconds / unit_seconds(job); }

struct ContextWay {
  int ulysses = 1;
  double seconds = 0;  ///< a row and layer that nothing hides
};

/// Keys that travel longer than attention on what is there takes, and heads that are exchanged ahead of it and behind
/// it, both ways; keys' gradients, in the sums' type, travel besides on the way back. `ulysses` ranks side by side
/// exchange heads, teams of so many keys.
double exposed_context(const ClusterJob& job, const StageCosts& flops, const Amount& all, int ulysses) {
  const arch::ModelShape& shape = job.model.shape;
  const Cluster& cluster = job.cluster;
  const double ranks = job.mesh.cp * job.mesh.tp,
               pairs = static_cast<double>(all.pairs) / static_cast<double>(all.rows);
  const auto head = static_cast<double>(shape.head_dim), value = static_cast<double>(job.model.value),
             sum = static_cast<double>(job.model.sum);
  const double keys = 2.0 * std::max<double>(1, static_cast<double>(shape.kv_heads) / job.mesh.tp) * head,
               queries = 2.0 * static_cast<double>(shape.heads) / job.mesh.tp * head;  // and what comes of them
  const AxisPlace teams = place_of(cluster, int64_t{job.mesh.tp} * ulysses, job.mesh.cp / ulysses),
                  members = place_of(cluster, job.mesh.tp, ulysses);
  const double travel = job.pack_rows > 0 ? std::min(1.0, 2 * pairs / static_cast<double>(job.pack_rows)) : 1;
  const auto exposed = [&](double bytes, double pair_flops, double rate) {
    return std::max(
        0.0, bytes_seconds(cluster, teams, travel * keys / ulysses * bytes) - pair_flops * pairs / (rate * ranks));
  };
  // Each member sends every other one its own rows of that one's heads: a gather's time, of what it has in the end.
  const double exchanged = bytes_seconds(cluster, members, (keys + queries) * value / job.mesh.cp);
  return exposed(value, static_cast<double>(flops.forward_pair), cluster.attention_forward_flops) +
         exposed(value + sum, static_cast<double>(flops.backward_pair), cluster.attention_backward_flops) +
         2 * exchanged;
}

ContextWay context_way(const ClusterJob& job, const StageCosts& flops, const Amount& all) {
  ContextWay best{1, exposed_context(job, flops, all, 1)};
  for (int ulysses = 2; job.mesh.cp % ulysses == 0 && job.model.shape.kv_heads / job.mesh.tp % ulysses == 0;
       ulysses *= 2)
    if (const double seconds = exposed_context(job, flops, all, ulysses); seconds < best.seconds)
      best = {ulysses, seconds};
  return best;
}

StageCosts costs_with(const ClusterJob& job, const Amount& all, int64_t overhead_rows, const Messages& messages) {
  const StageCosts flops = stage_costs(job.model.shape, job.model.recompute);
  const StepPlaces places = places_of(job);
  const Cluster& cluster = job.cluster;
  const double row_bytes = static_cast<double>(job.model.shape.hidden * job.model.value),
               ranks = job.mesh.cp * job.mesh.tp;
  // What lies between products is bound by memory: every operation's input is written and read, forward once and
  // backward twice. per_row counts in three passes, and once more where layers run again. Two gathers and two sums a
  // layer each way.
  const double passes = job.model.recompute ? 4 : 3, exchanges = job.model.recompute ? 12 : 8;
  const double touched = 2.0 * static_cast<double>(kept_elements(job.model.shape) * job.model.value);
  const double own =
      static_cast<double>(flops.per_row) / kUnitFlops + units(job, touched / (cluster.memory_bandwidth * ranks));
  double per_row = own, overhead = static_cast<double>(overhead_rows);
  if (messages.tensor && job.mesh.tp > 1) {
    per_row += units(job, exchanges * bytes_seconds(cluster, places.tp, row_bytes) / job.mesh.cp) / passes;
    const double latency = message_seconds(cluster, places.tp, 0);
    overhead = (overhead * own + units(job, exchanges * latency) / 3) / per_row;
  }
  if (messages.context && job.mesh.cp > 1) {
    per_row += units(job, context_way(job, flops, all).seconds) / passes;
    overhead += units(job, message_seconds(cluster, places.cp, 0)) / per_row;  // keys, keys again, their gradients
  }
  StageCosts costs = flops;
  costs.per_row = std::llround(per_row);
  costs.overhead_rows = std::llround(overhead);
  costs.forward_pair = std::llround(static_cast<double>(flops.forward_pair) / kUnitFlops * cluster.linear_flops /
                                    cluster.attention_forward_flops);
  costs.backward_pair = std::llround(static_cast<double>(flops.backward_pair) / kUnitFlops * cluster.linear_flops /
                                     cluster.attention_backward_flops);
  costs.per_edge = std::llround(static_cast<double>(flops.per_edge) / kUnitFlops);
  if (messages.pipeline && job.mesh.pp > 1) {
    const double latency = message_seconds(cluster, places.pp, 0);
    costs.per_link = std::llround(units(job, latency));
    costs.per_link_row = std::llround(units(job, message_seconds(cluster, places.pp, row_bytes / ranks) - latency));
  }
  return costs;
}

/// Parameters of a rank of the stage that has most.
double most_weights(const ClusterJob& job, const std::vector<int64_t>& layers) {
  PipelinePlan plan;
  plan.layers = layers;
  PlanFigures figures;
  figures.stage_peak_row_layers.assign(index(job.mesh.pp), 0);
  double most = 0;
  for (const StageMemory& stage : stage_memory(job.model, job.mesh, plan, figures))
    most = std::max(most, static_cast<double>(stage.gradients / job.model.sum));
  return most;
}

double update_seconds(const ClusterJob& job, double weights) {
  // Masters and both moments read and written, gradients read, values written.
  const double bytes = static_cast<double>(7 * job.model.sum + job.model.value);
  return weights / (job.mesh.dp * job.mesh.cp) * bytes / job.cluster.memory_bandwidth;
}

/// Gradients and values in buckets: the last reduction and the first gather have nothing beside them.
double data_seconds(const ClusterJob& job, double weights, double unit_work) {
  constexpr double kBucket = 4 << 20;
  const AxisPlace sharers = places_of(job).sharers;
  const double buckets = std::max(1.0, weights / kBucket);
  const double reduce = gather_seconds(job.cluster, sharers, weights * static_cast<double>(job.model.sum));
  const double gather = gather_seconds(job.cluster, sharers, weights * static_cast<double>(job.model.value));
  return std::max(reduce / buckets, reduce - unit_work * 2 / 3) + std::max(gather / buckets, gather - unit_work / 3);
}

double flops_of(const ModelBytes& model, double rows, double pairs) {
  const StageCosts flops = stage_costs(model.shape);
  return static_cast<double>(flops.layers) *
         (static_cast<double>(flops.per_row) * rows + static_cast<double>(flops.forward_pair) * pairs);
}

}  // namespace

std::string largest_loss(const ClusterSeconds& seconds) {
  const std::pair<double, const char*> losses[] = {{seconds.bubble, "bubble"}, {seconds.tensor, "tp"},
                                                   {seconds.context, "cp"},    {seconds.pipeline, "pp"},
                                                   {seconds.data, "dp"},       {seconds.update, "update"}};
  const auto most = std::ranges::max_element(losses, {}, &std::pair<double, const char*>::first);
  return most->first > seconds.all() / 10 ? most->second : "compute";
}

double unit_seconds(const ClusterJob& job) {
  return kUnitFlops / (job.cluster.linear_flops * job.mesh.tp * job.mesh.cp);
}

int head_exchange(const ClusterJob& job, const Amount& all) {
  return context_way(job, stage_costs(job.model.shape, job.model.recompute), all).ulysses;
}

StageCosts cluster_costs(const ClusterJob& job, const Amount& all, int64_t overhead_rows) {
  return costs_with(job, all, overhead_rows, {});
}

ClusterSeconds cluster_seconds(const ClusterJob& job, const Amount& all, int64_t overhead_rows,
                               const PlannerOptions& options, const PipelinePlan& plan) {
  const auto slowest = std::ranges::max_element(plan.replica, {}, &PlannedReplica::makespan);
  Program program(shape_of(options, *slowest));
  const auto run = [&](const Messages& messages) {
    const StageCosts costs = costs_with(job, all, overhead_rows, messages);
    return program.simulate(unit_costs(costs, *slowest), plan.layers, false);
  };
  const Simulation whole = run({}), unlinked = run({.pipeline = false});
  const auto stage = index(std::ranges::max_element(unlinked.busy) - unlinked.busy.begin());
  const int64_t busy = unlinked.busy[stage];
  const int64_t without_context = run({.context = false, .pipeline = false}).busy[stage];
  const int64_t alone = run({.tensor = false, .context = false, .pipeline = false}).busy[stage];
  const auto seconds = [&](int64_t of_units) { return static_cast<double>(of_units) * unit_seconds(job); };
  const double weights = most_weights(job, plan.layers);
  return {.compute = seconds(alone),
          .bubble = seconds(unlinked.makespan - busy),
          .tensor = seconds(without_context - alone),
          .context = seconds(busy - without_context),
          .pipeline = seconds(whole.makespan - unlinked.makespan),
          .data = data_seconds(job, weights, seconds(busy) / std::max(1, program.units())),
          .update = update_seconds(job, weights)};
}

double least_seconds(const ClusterJob& job, const Amount& all, int64_t overhead_rows) {
  const StageCosts costs = cluster_costs(job, all, overhead_rows);
  const double work = static_cast<double>(total_work(costs, all)) * unit_seconds(job);
  return work / (job.mesh.dp * job.mesh.pp);
}

double model_flops(const ModelBytes& model, const Amount& all) {
  const double head = static_cast<double>(stage_costs(model.shape).per_edge) * static_cast<double>(all.edges);
  return 3 * (flops_of(model, static_cast<double>(all.rows), static_cast<double>(all.pairs)) + head);
}

double sharing_bound(const ModelBytes& model, const LengthTree& tree) {
  double rows = 0, pairs = 0;
  for (const LengthSample& sample : tree.sample) {
    const LengthNode& last = tree.node[index(sample.node)];
    const auto length = static_cast<double>(last.above + last.rows);
    rows += length, pairs += length * (length + 1) / 2;
  }
  const Amount all = tree.unique();
  return flops_of(model, rows, pairs) / flops_of(model, static_cast<double>(all.rows), static_cast<double>(all.pairs));
}

double cluster_memory(const ClusterJob& job, const PipelinePlan& plan, const PlanFigures& figures) {
  int64_t most = 0;
  for (const StageMemory& stage : stage_memory(job.model, job.mesh, plan, figures))
    most = std::max(most, stage.total());
  return static_cast<double>(most) + job.cluster.memory_reserve;
}

double least_memory(const ClusterJob& job, const std::vector<int64_t>& layers) {
  PipelinePlan plan;
  plan.layers = layers;
  PlanFigures figures;
  figures.stage_peak_row_layers.assign(index(job.mesh.pp), 0);
  return cluster_memory(job, plan, figures);
}

}  // namespace fpdist::plan
