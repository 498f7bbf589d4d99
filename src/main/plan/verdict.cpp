#include <algorithm>
#include <iterator>

#include "fpdist/core/error.hpp"
#include "src/core/words.hpp"
#include "src/main/plan/plan_report.hpp"

namespace fpdist::main_program {
namespace {

/// Less than what costs are wrong by says nothing.
constexpr double kWorthSaying = 0.01;

double gain(const Report& report, int64_t step) {
  return 1.0 - static_cast<double>(step) / static_cast<double>(report.step.plan.step);
}

std::string faster(const Report& report, const std::string& what, int64_t step, const std::string& how) {
  return text(what, " would take ", percent(gain(report, step)), " less time", how);
}

std::string on_schedules(const Report& report) {
  const ScheduleTime* best = nullptr;
  for (const ScheduleTime& time : report.schedules)
    if (time.refusal.empty() && (!best || time.step < best->step)) best = &time;
  if (!best || gain(report, best->step) < kWorthSaying) return "";
  return faster(report, text(plan::name_of(best->schedule)), best->step,
                text(": --parallel.schedule ", plan::name_of(best->schedule)));
}

std::string on_meshes(const Report& report) {
  const auto best = std::ranges::min_element(report.meshes, {}, &MeshTime::step);
  if (best == report.meshes.end() || gain(report, best->step) < kWorthSaying) return "";
  const int now = report.request.options.parallel.pp;
  return faster(report, text("dp ", best->replicas, " x pp ", best->pp, ", on as many ranks,"), best->step,
                text(best->pp < now ? text(", where a rank can hold ", now / best->pp, " times the layers") : "",
                     ": --parallel.dp ", best->replicas, " --parallel.pp ", best->pp));
}

/// A stage that computes longer than the others is what all of them wait for.
std::string on_stages(const Report& report) {
  constexpr double kUneven = 1.03;
  if (report.step.figures.stage_floor < kUneven) return "";
  return text("stage ", busiest_stage(report), " is the bottleneck: it computes ",
              percent(report.step.figures.stage_floor - 1), " longer than the stages' mean (parallel.layers)");
}

}  // namespace

size_t busiest_stage(const Report& report) {
  const std::vector<int64_t>& busy = report.step.figures.stage_busy;
  return static_cast<size_t>(std::distance(busy.begin(), std::ranges::max_element(busy)));
}

std::vector<std::string> verdict(const Report& report) {
  std::vector<std::string> all;
  for (std::string sentence : {on_schedules(report), on_meshes(report), on_stages(report)})
    if (!sentence.empty()) all.push_back(std::move(sentence));
  const bool has_choice = !report.schedules.empty() || !report.meshes.empty();
  if (all.empty() && has_choice) all.emplace_back("no other schedule, and no other mesh of as many ranks, is faster");
  return all;
}

}  // namespace fpdist::main_program
