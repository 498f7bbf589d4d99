#pragma once
// main: what fpdist_plan says about a plan, for people, for programs and as a picture.

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "fpdist/plan/baselines.hpp"
#include "fpdist/plan/pipeline_plan.hpp"
#include "fpdist/plan/plan_figures.hpp"
#include "fpdist/plan/timeline.hpp"

namespace fpdist::main_program {

/// What is planned, wherever it came from: a length file now; the groups of a config's step are the other source.
struct PlanRequest {
  plan::LengthTree tree;
  plan::StageCosts costs;
  plan::PlannerOptions options;
};

struct PlannedStep {
  plan::PipelinePlan plan;
  plan::PlanFigures figures;
  double plan_ms = 0;  ///< own CPU time of the thread: lengths to op lists
};
PlannedStep plan_step(const PlanRequest& request);

struct Comparison {
  std::string name;
  plan::BaselineResult best;
};
std::vector<Comparison> compare(const PlanRequest& request, const plan::PipelinePlan& plan);

nlohmann::json to_json(const PlanRequest& request, const PlannedStep& step, const std::vector<Comparison>& others);
std::string to_text(const PlanRequest& request, const PlannedStep& step, const std::vector<Comparison>& others);

/// Simulated events of replica `d`, in cost units.
std::vector<plan::TimelineEvent> timeline_of(const PlanRequest& request, const plan::PipelinePlan& plan, size_t d);

/// A page without any other file: one picture a replica, a row a stage, a box an operation.
std::string to_html(const PlanRequest& request, const PlannedStep& step);

}  // namespace fpdist::main_program
