#pragma once
// Tests: what plan_pipeline is asked.

#include "src/plan/pack/pipeline_plan.hpp"

namespace fpdist::test {

struct PlannerCase {
  plan::LengthTree tree;
  plan::StageCosts costs;
  plan::PlannerOptions options;
};

}  // namespace fpdist::test
