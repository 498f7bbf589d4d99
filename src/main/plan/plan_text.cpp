#include <iomanip>
#include <sstream>

#include "src/core/words.hpp"
#include "src/main/plan/plan_report.hpp"

namespace fpdist::main_program {
namespace {

double millions(int64_t operations) { return static_cast<double>(operations) / 1e6; }

void write_plan(std::ostream& out, const Report& report) {
  const plan::PlanFigures& f = report.step.figures;
  const plan::PlannerOptions& options = report.request.options;
  const plan::ParallelOptions& parallel = options.parallel;
  out << "from           " << report.origin.source << "; costs: " << report.origin.costs << "\nmesh           dp "
      << options.replicas << ", pp " << parallel.pp;
  if (parallel.cp > 1) out << ", cp " << parallel.cp;
  if (parallel.tp > 1) out << ", tp " << parallel.tp;
  out << ", " << plan::name_of(parallel.schedule) << " with " << parallel.virtual_stages
      << " run(s) a stage\nlayers        ";
  for (const int64_t layers : report.step.plan.layers) out << ' ' << layers;
  out << "  (busiest stage / mean " << f.stage_floor << ")\n"
      << "sharing        " << f.sharing_ratio << " logical tokens for a unique one, " << f.sharing_kept
      << " for a computed one\n"
      << "packs          " << f.packs << " of up to " << options.max_tokens << " rows (fill " << f.fill << "), in "
      << f.units << " units\n"
      << "step / ideal   " << f.step_over_ideal << "  (lower bound of these packs: gap " << f.gap << ")\n"
      << "step           " << f.step << " cost units";
  if (report.origin.seconds_per_unit > 0) out << ", " << report.seconds(f.step) << " s";
  out << "\nbubble         " << f.bubble << " of the busiest stage, " << f.idle << " of all\n"
      << "replicas       slowest / mean " << f.replica_imbalance << "\n"
      << "stage busy    ";
  for (const int64_t busy : f.stage_busy) out << ' ' << report.step.over_ideal(busy);
  out << "  (of ideal, busiest replica)\nrows in flight " << f.peak_tokens_in_flight << " of "
      << f.most_tokens_in_flight << " allowed; times their layers, by stage:";
  for (const int64_t rows : f.stage_peak_row_layers) out << ' ' << rows;
  out << "\nrows sent      " << f.rows_sent << " forward, as many gradients back\nplanned in     "
      << report.step.plan_ms << " ms of one thread, search " << millions(report.step.plan.effort) << " of "
      << millions(report.step.plan.budget) << " million operations"
      << (report.step.plan.effort < report.step.plan.budget ? "" : ", all spent") << "\npacks' hash    "
      << plan::hash_of(report.step.plan) << '\n';
}

void write_job(std::ostream& out, const Report& report) {
  const JobModel& job = *report.request.job;
  const MeshShape mesh = report.request.mesh();
  out << "plan hash      " << job.hash << "\nmemory a rank  weights, gradients, optimizer, activations\n";
  const auto memory = stage_memory(job.bytes, mesh, report.step.plan, report.step.figures);
  for (size_t s = 0; s < memory.size(); ++s)
    out << "  stage " << s << "      " << bytes_text(memory[s].weights) << ", " << bytes_text(memory[s].gradients)
        << ", " << bytes_text(memory[s].optimizer) << ", " << bytes_text(memory[s].activations) << " = "
        << bytes_text(memory[s].total()) << '\n';
  const plan::StepTraffic traffic = step_traffic(job.bytes, mesh, report.step.figures);
  out << "sent a step    all ranks: pp " << bytes_text(traffic.pipeline) << ", tp " << bytes_text(traffic.tensor)
      << ", cp " << bytes_text(job.context_bytes) << ", dp " << bytes_text(traffic.data) << '\n';
}

}  // namespace

std::string to_text(const Report& report) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(3);
  write_plan(out, report);
  if (report.request.job) write_job(out, report);
  for (const ScheduleTime& time : report.schedules) {
    out << "schedule       " << plan::name_of(time.schedule) << ": ";
    if (time.refusal.empty())
      out << "step / ideal " << report.step.over_ideal(time.step) << ", bubble " << time.bubble << '\n';
    else
      out << time.refusal << '\n';
  }
  for (const MeshTime& mesh : report.meshes)
    out << "other mesh     dp " << mesh.replicas << " x pp " << mesh.pp << ": step / ideal "
        << report.step.over_ideal(mesh.step) << '\n';
  for (const Comparison& other : report.others) {
    const double over_ideal = report.step.over_ideal(other.best.step);
    out << "compared       " << over_ideal << " (" << over_ideal / report.step.figures.step_over_ideal << "x)  "
        << other.name << ", packs of " << other.best.cap << '\n';
  }
  for (const ScalePoint& point : report.scaling)
    out << "world " << std::setw(8) << std::left << point.ranks << " dp " << point.replicas << ", step / ideal "
        << point.step_over_ideal << ", step " << point.step << " cost units, efficiency " << point.efficiency << '\n';
  if (report.cluster) out << to_text(*report.cluster);
  if (is_cut_short(report.request))
    out << "cut short      a step this large is planned alone: --complete plans other schedules and meshes too, and "
           "writes every pack\n";
  for (const std::string& sentence : verdict(report)) out << "verdict        " << sentence << '\n';
  return out.str();
}

}  // namespace fpdist::main_program
