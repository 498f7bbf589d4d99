#pragma once
// plan: what the packer moves around. A unit is a set of samples that stay together: a whole group, or one sample of a
// group that may be torn. Its forest nodes are either its own or shared with other units; a pack computes a shared node
// once however many of its units pass through it.

#include <cstdint>
#include <span>
#include <vector>

#include "fpdist/data/sample.hpp"
#include "fpdist/plan/cost_model.hpp"
#include "fpdist/plan/step_plan.hpp"
#include "fpdist/plan/work.hpp"
#include "fpdist/prefix/forest.hpp"

namespace fpdist::plan {

struct Unit {
  std::vector<MemberRef> member;
  std::vector<int32_t> shared;  ///< the nodes that other units use too, indices in UnitSet::shared
  Work own;                     ///< nodes of no other unit, and all its edges
  Work alone;                   ///< the unit in a pack of its own
};

struct UnitSet {
  std::vector<Unit> unit;    ///< by (group, index)
  std::vector<Work> shared;  ///< rows and pairs of each shared node
};

/// One forest over all samples of the step.
struct StepForest {
  prefix::Forest forest;
  std::vector<int32_t> first_sample;  ///< [groups] forest sample of each group's first
  std::vector<int64_t> edges;         ///< [samples]
  int64_t tokens_logical = 0;
};

StepForest make_step_forest(std::span<const data::Group> groups, bool share);

/// One unit a group, or one a sample where `torn[group]`.
UnitSet make_units(const StepForest& step, std::span<const data::Group> groups, const std::vector<bool>& torn);

}  // namespace fpdist::plan
