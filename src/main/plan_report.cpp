#include "src/main/plan_report.hpp"

#include <ctime>
#include <iomanip>
#include <sstream>

#include "fpdist/core/error.hpp"

namespace fpdist::main_program {
namespace {

double thread_cpu_ms() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) / 1e6;
}

double over_ideal(const PlannedStep& step, int64_t time) {
  return static_cast<double>(time) / static_cast<double>(step.figures.ideal);
}

/// The plan itself, so that anyone can price it: leaves are samples in file order.
nlohmann::json plan_json(const plan::PipelinePlan& plan) {
  nlohmann::json replicas = nlohmann::json::array();
  for (const plan::PlannedReplica& replica : plan.replica) {
    nlohmann::json packs = nlohmann::json::array();
    for (const plan::PlannedPack& pack : replica.pack) {
      nlohmann::json rows = nlohmann::json::array();
      for (const plan::Work& slice : pack.slice) rows.push_back(slice.rows);
      packs.push_back({{"leaves", pack.sample}, {"rows", rows}});
    }
    replicas.push_back({{"window", replica.window}, {"packs", packs}});
  }
  return {{"layers", plan.layers}, {"replicas", replicas}};
}

}  // namespace

PlannedStep plan_step(const PlanRequest& request) {
  PlannedStep step;
  const double begin = thread_cpu_ms();
  step.plan = plan::plan_pipeline(request.tree, request.costs, request.options);
  for (const plan::PlannedReplica& replica : step.plan.replica)
    plan::pipeline_ops(plan::shape_of(request.options, replica));
  step.plan_ms = thread_cpu_ms() - begin;
  step.figures = plan::figures_of(request.tree, request.costs, request.options, step.plan);
  return step;
}

std::vector<Comparison> compare(const PlanRequest& request, const plan::PipelinePlan& plan) {
  const auto& [tree, costs, options] = request;
  std::vector<Comparison> all;
  all.push_back({"groups filled to the cap", price_baseline(plan::Baseline::kGroupFirstFit, tree, costs, options,
                                                            plan.layers, options.max_tokens)});
  for (const auto& [name, kind] : {std::pair{"groups, first fit decreasing", plan::Baseline::kGroupFirstFit},
                                   std::pair{"first fit on each replica", plan::Baseline::kReplicaFirstFit},
                                   std::pair{"nothing shared", plan::Baseline::kUnshared}})
    all.push_back({name, best_baseline(kind, tree, costs, options, plan.layers)});
  return all;
}

nlohmann::json to_json(const PlanRequest& request, const PlannedStep& step, const std::vector<Comparison>& others) {
  const plan::PlanFigures& f = step.figures;
  nlohmann::json result{{"step_over_ideal", f.step_over_ideal},
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
                        {"step", f.step},
                        {"ideal", f.ideal},
                        {"bound", f.bound},
                        {"schedule", plan::name_of(request.options.parallel.schedule)},
                        {"dp", request.options.replicas},
                        {"pp", request.options.parallel.pp},
                        {"virtual_stages", request.options.parallel.virtual_stages},
                        {"max_tokens", request.options.max_tokens},
                        {"plan", plan_json(step.plan)}};
  for (const Comparison& other : others)
    result["compare"].push_back(
        {{"name", other.name}, {"cap", other.best.cap}, {"step_over_ideal", over_ideal(step, other.best.step)}});
  return result;
}

std::string to_text(const PlanRequest& request, const PlannedStep& step, const std::vector<Comparison>& others) {
  const plan::PlanFigures& f = step.figures;
  const plan::ParallelOptions& parallel = request.options.parallel;
  std::ostringstream out;
  out << std::fixed << std::setprecision(3);
  out << "mesh           dp " << request.options.replicas << ", pp " << parallel.pp << ", "
      << plan::name_of(parallel.schedule) << " with " << parallel.virtual_stages << " chunk(s) a stage\nlayers        ";
  for (const int64_t layers : step.plan.layers) out << ' ' << layers;
  out << "  (busiest stage / mean " << f.stage_floor << ")\n"
      << "sharing        " << f.sharing_ratio << " logical tokens for a unique one, " << f.sharing_kept
      << " for a computed one\n"
      << "packs          " << f.packs << " of up to " << request.options.max_tokens << " rows (fill " << f.fill
      << "), in " << f.units << " units\n"
      << "step / ideal   " << f.step_over_ideal << "  (lower bound of these packs: gap " << f.gap << ")\n"
      << "bubble         " << f.bubble << " of the busiest stage, " << f.idle << " of all\n"
      << "replicas       slowest / mean " << f.replica_imbalance << "\n"
      << "stage busy    ";
  for (const int64_t busy : f.stage_busy) out << ' ' << over_ideal(step, busy);
  out << "  (of ideal, busiest replica)\nrows in flight " << f.peak_tokens_in_flight << " of "
      << f.most_tokens_in_flight << " allowed\nrows sent      " << f.rows_sent
      << " forward, as many gradients back\nplanned in     " << step.plan_ms << " ms of one thread\n";
  for (const Comparison& other : others) {
    out << "compared       " << over_ideal(step, other.best.step) << " ("
        << over_ideal(step, other.best.step) / f.step_over_ideal << "x)  " << other.name << ", packs of "
        << other.best.cap << '\n';
  }
  return out.str();
}

std::vector<plan::TimelineEvent> timeline_of(const PlanRequest& request, const plan::PipelinePlan& plan, size_t d) {
  const plan::PipelineShape shape = plan::shape_of(request.options, plan.replica[d]);
  return plan::simulate(shape, plan::pipeline_ops(shape), plan::unit_costs(request.costs, plan.replica[d]), plan.layers,
                        true)
      .events;
}

}  // namespace fpdist::main_program
