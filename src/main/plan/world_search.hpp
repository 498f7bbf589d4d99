#pragma once
// main: the best mesh of a cluster for a step, of every size of it that is asked for.

#include <cstdint>
#include <span>
#include <vector>

#include "src/main/plan/plan_report.hpp"
#include "src/main/plan/world_report.hpp"
#include "src/plan/figures/cluster_step.hpp"

namespace fpdist::main_program {

/// What a step takes on a cluster of each of `world_sizes` GPUs: meshes over tp (inside a node), cp up to 64 and pp up
/// to 16, each with its schedules, recomputing layers where they do not fit otherwise, and packs of the most tokens, a
/// half and a quarter of them, in order of the least that they could take, until none can be faster than the best. Of a
/// step above 20,000 samples the first 12 that fit are, with packs of the most tokens. With `complete`, all are
/// planned. Options of `request` besides are kept; `bytes` is the model.
std::vector<WorldPoint> search_worlds(const PlanRequest& request, const plan::ModelBytes& bytes,
                                      const plan::Cluster& cluster, std::span<const int64_t> world_sizes);

/// The model that costs of length files are of.
plan::ModelBytes llama3_8b();

}  // namespace fpdist::main_program
