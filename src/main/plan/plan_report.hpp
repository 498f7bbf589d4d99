#pragma once
// main: what fpdist_plan says about a plan, for people, for programs and as a picture.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "src/main/plan/world_report.hpp"
#include "src/plan/figures/baselines.hpp"
#include "src/plan/figures/plan_figures.hpp"
#include "src/plan/figures/step_volume.hpp"
#include "src/plan/pack/pipeline_plan.hpp"
#include "src/plan/schedule/timeline.hpp"

namespace fpdist::main_program {

/// What a config tells beyond lengths.
struct JobModel {
  plan::ModelBytes bytes;
  int64_t context_bytes = 0;                          ///< between context-parallel ranks, all of them, in one step
  uint64_t hash = 0;                                  ///< of the trainer's plan
  std::vector<std::pair<int64_t, int32_t>> sample{};  ///< [tree.sample] group and index
};

/// What is planned, wherever it came from: a length file, or a step of a config.
struct PlanRequest {
  plan::LengthTree tree;
  plan::StageCosts costs;
  plan::PlannerOptions options;
  std::optional<JobModel> job{};  ///< configs only
  bool complete = false;          ///< however large
  MeshShape mesh() const { return {options.replicas, options.parallel.pp, options.parallel.cp, options.parallel.tp}; }
};

/// Whether the step is so large that what is said beside the plan is cut short: no alternatives, few caps for others'
/// packing, no leaves and the first replicas only in files and pages. Not where `complete` is asked for.
bool is_cut_short(const PlanRequest& request);

struct PricedStep {
  plan::PipelinePlan plan;
  plan::PlanFigures figures;
  double plan_ms = 0;  ///< own CPU time of the thread: lengths to op lists
  double over_ideal(int64_t time) const { return static_cast<double>(time) / static_cast<double>(figures.ideal); }
};
PricedStep plan_step(const PlanRequest& request);

struct Comparison {
  std::string name;
  plan::BaselineResult best;
};
std::vector<Comparison> compare(const PlanRequest& request, const plan::PipelinePlan& plan);

/// The same step under another schedule.
struct ScheduleTime {
  plan::Schedule schedule;
  int64_t step = 0;     ///< cost units
  double bubble = 0;    ///< see PlanFigures
  std::string refusal;  ///< why there is none; else empty
};
/// All schedules, each with layers by cost unless those given fit it too. Empty without a pipeline, or cut short.
std::vector<ScheduleTime> time_schedules(const PlanRequest& request, const PricedStep& planned);

/// The same step on as many ranks, with more or fewer stages in place of replicas.
struct MeshTime {
  int pp = 1, replicas = 1;
  int64_t step = 0;  ///< cost units
};
/// Without stages, with half and with twice as many, where the ranks and the model's layers allow it; none cut short.
std::vector<MeshTime> time_meshes(const PlanRequest& request);

/// The same step on more or fewer ranks, all of them replicas.
struct ScalePoint {
  int64_t ranks = 0, step = 0;
  int replicas = 0;
  double step_over_ideal = 0, sharing_kept = 0;
  double efficiency = 0;  ///< ranks * step of the first point over ranks * step
};
/// Throws ConfigError for a number of ranks that is no multiple of pp * cp * tp.
std::vector<ScalePoint> scale(const PlanRequest& request, std::span<const int64_t> world_sizes);

/// What a report was made from.
struct Origin {
  std::string source;           ///< the length file or configuration
  std::string costs;            ///< where costs come from, in words
  double seconds_per_unit = 0;  ///< of the costs; 0: nobody has measured it
  std::string date;             ///< of the report
};

/// All that is said about one step.
struct Report {
  PlanRequest request;
  PricedStep step;
  Origin origin;
  std::vector<Comparison> others;
  std::vector<ScheduleTime> schedules;
  std::vector<MeshTime> meshes;
  std::vector<ScalePoint> scaling;
  std::optional<ClusterReport> cluster{};  ///< in place of scaling

  double seconds(int64_t units) const { return origin.seconds_per_unit * static_cast<double>(units); }
};
/// The stage whose ranks compute longest.
size_t busiest_stage(const Report& report);

/// Which schedule or mesh would be faster by how much and what to type for it, and which stage holds the others up: a
/// sentence each.
std::vector<std::string> verdict(const Report& report);

nlohmann::json to_json(const Report& report);
std::string to_text(const Report& report);

/// How many of a plan's replicas are named one by one.
size_t replicas_shown(const Report& report);

/// Simulated events of replica `d`, in cost units.
std::vector<plan::TimelineEvent> timeline_of(const PlanRequest& request, const plan::PipelinePlan& plan, size_t d);

/// A page without any other file: figures, tables, and one picture a replica with a row a stage and a box an operation.
std::string to_html(const Report& report);

}  // namespace fpdist::main_program
