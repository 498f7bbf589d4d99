#pragma once
// plan: layers moved between runs of a pipeline for as long as the simulated step gets shorter. stage_layers balances
// sums; where overhead and bubbles weigh on stages differently, another split is better.

#include <vector>

#include "src/plan/pack/draft.hpp"

namespace fpdist::plan {

/// Moves single layers between any two runs; changes problem.layers and, with them, every replica's makespan.
void improve_layers(PackProblem& problem, Pricer& pricer, std::vector<ReplicaDraft>& replicas);

}  // namespace fpdist::plan
