#pragma once
// Tests: what plan_pipeline is asked.

#include "src/plan/pack/pipeline_plan.hpp"

namespace fpdist::plan {

struct PlannerCase {
  LengthTree tree;
  StageCosts costs;
  PlannerOptions options;
};

}  // namespace fpdist::plan
