#include "src/main/plan/plan_report.hpp"

#include <algorithm>
#include <ctime>
#include <set>

#include "fpdist/core/error.hpp"

namespace fpdist::main_program {
namespace {

double thread_cpu_ms() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) / 1e6;
}

constexpr size_t kManySamples = 20000;

/// The same request, searched for less where the step is so large that each alternative would cost as much again.
PlanRequest alternative_to(const PlanRequest& request) {
  constexpr int64_t kThrift = 8;
  PlanRequest other = request;
  if (request.tree.sample.size() > kManySamples) other.options.thrift = kThrift;
  return other;
}

}  // namespace

bool is_cut_short(const PlanRequest& request) { return request.tree.sample.size() > kManySamples && !request.complete; }

size_t replicas_shown(const Report& report) {
  constexpr size_t kShown = 8;
  const size_t all = report.step.plan.replica.size();
  return is_cut_short(report.request) ? std::min(all, kShown) : all;
}

PricedStep plan_step(const PlanRequest& request) {
  PricedStep step;
  const double begin = thread_cpu_ms();
  step.plan = plan::plan_pipeline(request.tree, request.costs, request.options);
  for (const plan::PlannedReplica& replica : step.plan.replica)
    plan::pipeline_ops(plan::shape_of(request.options, replica));
  step.plan_ms = thread_cpu_ms() - begin;
  step.figures = plan::figures_of(request.tree, request.costs, request.options, step.plan);
  return step;
}

std::vector<Comparison> compare(const PlanRequest& request, const plan::PipelinePlan& plan) {
  const auto& [tree, costs, options, job, complete] = request;
  const int64_t percent = is_cut_short(request) ? 50 : 84;  // of a cap, the next one
  std::vector<Comparison> all;
  all.push_back({"groups filled to the cap", price_baseline(plan::Baseline::kGroupFirstFit, tree, costs, options,
                                                            plan.layers, options.max_tokens)});
  for (const auto& [name, kind] : {std::pair{"groups, first fit decreasing", plan::Baseline::kGroupFirstFit},
                                   std::pair{"first fit on each replica", plan::Baseline::kReplicaFirstFit},
                                   std::pair{"nothing shared", plan::Baseline::kUnshared}})
    all.push_back({name, best_baseline(kind, tree, costs, options, plan.layers, percent)});
  return all;
}

std::vector<ScheduleTime> time_schedules(const PlanRequest& request, const PricedStep& planned) {
  std::vector<ScheduleTime> all;
  if (request.options.parallel.pp == 1 || is_cut_short(request)) return all;
  for (const plan::Schedule schedule :
       {plan::Schedule::k1F1B, plan::Schedule::kInterleaved, plan::Schedule::kZeroBubble}) {
    PlanRequest other = alternative_to(request);
    plan::ParallelOptions& parallel = other.options.parallel;
    ScheduleTime& time = all.emplace_back();
    time.schedule = schedule;
    if (schedule == parallel.schedule) {
      time.step = planned.figures.step, time.bubble = planned.figures.bubble;
      continue;
    }
    const int runs = schedule == plan::Schedule::kInterleaved ? 2 : 1;
    if (runs != parallel.virtual_stages) parallel.layers.clear();
    parallel.schedule = schedule, parallel.virtual_stages = runs;
    try {
      const plan::PlanFigures figures = plan_step(other).figures;
      time.step = figures.step, time.bubble = figures.bubble;
    } catch (const ConfigError& error) {
      time.refusal = error.what();
    }
  }
  return all;
}

std::vector<MeshTime> time_meshes(const PlanRequest& request) {
  std::vector<MeshTime> all;
  if (is_cut_short(request)) return all;
  const int stages = request.options.parallel.pp, ranks = stages * request.options.replicas;
  for (const int pp : std::set<int>{1, stages / 2, stages * 2}) {
    if (pp < 1 || pp == stages || ranks % pp != 0) continue;
    PlanRequest other = alternative_to(request);
    plan::ParallelOptions& parallel = other.options.parallel;
    parallel.pp = pp, parallel.layers.clear(), other.options.replicas = ranks / pp;
    if (pp == 1) parallel.schedule = plan::Schedule::k1F1B, parallel.virtual_stages = 1;
    try {
      all.push_back({.pp = pp, .replicas = ranks / pp, .step = plan_step(other).plan.step});
    } catch (const ConfigError&) {  // too few layers, or rows that fit no longer: no choice
    }
  }
  return all;
}

std::vector<ScalePoint> scale(const PlanRequest& request, std::span<const int64_t> world_sizes) {
  std::vector<ScalePoint> all;
  const MeshShape mesh = request.mesh();
  const int64_t replica = int64_t{mesh.pp} * mesh.cp * mesh.tp;
  for (const int64_t ranks : world_sizes) {
    check<ConfigError>(ranks >= replica && ranks % replica == 0, "--world-sizes ", ranks, " is no multiple of ",
                       replica, ", the ranks of a replica (pp * cp * tp)");
    PlanRequest other = alternative_to(request);
    other.options.replicas = static_cast<int>(ranks / replica);
    const plan::PlanFigures figures = plan_step(other).figures;
    ScalePoint point{.ranks = ranks,
                     .step = figures.step,
                     .replicas = other.options.replicas,
                     .step_over_ideal = figures.step_over_ideal,
                     .sharing_kept = figures.sharing_kept,
                     .efficiency = 1};
    if (!all.empty())
      point.efficiency = static_cast<double>(all[0].ranks) * static_cast<double>(all[0].step) /
                         (static_cast<double>(ranks) * static_cast<double>(figures.step));
    all.push_back(point);
  }
  return all;
}

std::vector<plan::TimelineEvent> timeline_of(const PlanRequest& request, const plan::PipelinePlan& plan, size_t d) {
  const plan::PipelineShape shape = plan::shape_of(request.options, plan.replica[d]);
  std::vector<plan::TimelineEvent> events =
      plan::simulate(shape, plan::pipeline_ops(shape), plan::unit_costs(request.costs, plan.replica[d]), plan.layers,
                     /*with_events=*/true)
          .events;
  for (plan::TimelineEvent& event : events) {
    const plan::PlannedPack& pack = plan.replica[d].pack[static_cast<size_t>(event.op.pack)];
    event.rows = pack.slice[static_cast<size_t>(event.op.slice)].rows;
  }
  return events;
}

}  // namespace fpdist::main_program
