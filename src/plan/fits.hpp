#pragma once
// plan: whether groups can be planned at all, asked before any step is.

#include <cstdint>
#include <span>

#include "fpdist/data/sample.hpp"
#include "fpdist/plan/options.hpp"
#include "fpdist/plan/stage_costs.hpp"

namespace fpdist::plan {

/// What steps are planned with, see make_step_plan.
struct PlanningOptions {
  Atomic atomic = Atomic::kSamples;
  const ParallelOptions& parallel;
  const PackOptions& pack;
  const StageCosts& costs;
};

/// Rows of the largest pack that this group asks for: of all its samples where they stay together, else of the longest.
/// A bound of `enough` or less is not made exact: a group that fits in any case costs no look at its tokens.
int64_t pack_rows_needed(const data::Group& group, const PlanningOptions& options, int64_t enough);

/// Whether any step keeps to pack.max_in_flight whose groups ask for packs of at most `rows` rows.
bool always_keeps_in_flight(int64_t rows, const PlanningOptions& options);

/// The pack.max_in_flight with which a step of these groups has a plan; 0: the one that it has. No group needs more
/// than pack.max_tokens rows.
int64_t in_flight_needed(std::span<const data::Group> groups, const PlanningOptions& options);

}  // namespace fpdist::plan
