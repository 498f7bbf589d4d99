#include "src/main/plan/plan_report.hpp"

namespace fpdist::main_program {
namespace {

/// The plan itself, so that anyone can price it: leaves are samples in file order (of a config: indices of "samples").
/// Cut short, packs of the first replicas are counted.
nlohmann::json plan_json(const Report& report) {
  const plan::PipelinePlan& plan = report.step.plan;
  nlohmann::json replicas = nlohmann::json::array();
  for (size_t d = 0; d < replicas_shown(report); ++d) {
    const plan::PlannedReplica& replica = plan.replica[d];
    if (is_cut_short(report.request)) {
      replicas.push_back({{"window", replica.window}, {"packs", replica.pack.size()}, {"makespan", replica.makespan}});
      continue;
    }
    nlohmann::json packs = nlohmann::json::array();
    for (const plan::PlannedPack& pack : replica.pack) {
      nlohmann::json rows = nlohmann::json::array();
      for (const plan::Amount& slice : pack.slice) rows.push_back(slice.rows);
      packs.push_back({{"leaves", pack.sample}, {"rows", rows}});
    }
    replicas.push_back({{"window", replica.window}, {"packs", packs}});
  }
  return {{"layers", plan.layers}, {"replicas", replicas}, {"complete", !is_cut_short(report.request)}};
}

nlohmann::json figures_json(const PricedStep& step) {
  const plan::PlanFigures& f = step.figures;
  return {{"step_over_ideal", f.step_over_ideal},
          {"plan_ms", step.plan_ms},
          {"bubble", f.bubble},
          {"idle", f.idle},
          {"replica_imbalance", f.replica_imbalance},
          {"gap", f.gap},
          {"packs", f.packs},
          {"units", f.units},
          {"sharing_ratio", f.sharing_ratio},
          {"sharing_kept", f.sharing_kept},
          {"fill", f.fill},
          {"peak_tokens_in_flight", f.peak_tokens_in_flight},
          {"most_tokens_in_flight", f.most_tokens_in_flight},
          {"tokens_computed", f.tokens_computed},
          {"rows_sent", f.rows_sent},
          {"stage_floor", f.stage_floor},
          {"stage_busy", f.stage_busy},
          {"stage_peak_row_layers", f.stage_peak_row_layers},
          {"step", f.step},
          {"ideal", f.ideal},
          {"bound", f.bound}};
}

void add_job(nlohmann::json& result, const Report& report) {
  const JobModel& job = *report.request.job;
  const MeshShape mesh = report.request.mesh();
  for (const plan::StageMemory& stage : stage_memory(job.bytes, mesh, report.step.plan, report.step.figures))
    result["stage_bytes"].push_back({{"weights", stage.weights},
                                     {"gradients", stage.gradients},
                                     {"optimizer", stage.optimizer},
                                     {"activations", stage.activations},
                                     {"total", stage.total()}});
  const plan::StepTraffic traffic = step_traffic(job.bytes, mesh, report.step.figures);
  result["bytes_sent"] = {
      {"pp", traffic.pipeline}, {"tp", traffic.tensor}, {"cp", job.context_bytes}, {"dp", traffic.data}};
  result["hash"] = job.hash;
  result["samples"] = job.sample;
}

}  // namespace

nlohmann::json to_json(const Report& report) {
  nlohmann::json result = figures_json(report.step);
  const plan::PlannerOptions& options = report.request.options;
  result["schedule"] = plan::name_of(options.parallel.schedule);
  result["dp"] = options.replicas;
  result["pp"] = options.parallel.pp;
  result["cp"] = options.parallel.cp;
  result["tp"] = options.parallel.tp;
  result["virtual_stages"] = options.parallel.virtual_stages;
  result["max_tokens"] = options.max_tokens;
  result["plan"] = plan_json(report);
  result["source"] = report.origin.source, result["costs"] = report.origin.costs;
  if (report.origin.seconds_per_unit > 0) result["step_seconds"] = report.seconds(report.step.figures.step);
  result["verdict"] = verdict(report);
  result["plan_hash"] = plan::hash_of(report.step.plan);
  result["search"] = {{"operations", report.step.plan.effort}, {"budget", report.step.plan.budget}};
  for (const MeshTime& mesh : report.meshes)
    result["meshes"].push_back({{"dp", mesh.replicas}, {"pp", mesh.pp}, {"step", mesh.step}});
  for (const Comparison& other : report.others)
    result["compare"].push_back(
        {{"name", other.name}, {"cap", other.best.cap}, {"step_over_ideal", report.step.over_ideal(other.best.step)}});
  for (const ScheduleTime& time : report.schedules) {
    nlohmann::json one{{"schedule", plan::name_of(time.schedule)}};
    if (time.refusal.empty())
      one.update(
          {{"step", time.step}, {"step_over_ideal", report.step.over_ideal(time.step)}, {"bubble", time.bubble}});
    else
      one["refusal"] = time.refusal;
    result["schedules"].push_back(std::move(one));
  }
  for (const ScalePoint& point : report.scaling)
    result["scaling"].push_back({{"ranks", point.ranks},
                                 {"dp", point.replicas},
                                 {"step", point.step},
                                 {"step_over_ideal", point.step_over_ideal},
                                 {"sharing_kept", point.sharing_kept},
                                 {"efficiency", point.efficiency}});
  if (report.cluster) result["cluster"] = to_json(*report.cluster);
  if (report.request.job) add_job(result, report);
  return result;
}

}  // namespace fpdist::main_program
