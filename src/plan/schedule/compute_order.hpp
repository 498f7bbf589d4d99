#pragma once
// plan: in which order a pipeline stage computes, messages left out. The op lists and the simulator are both made from
// it, so that what is scored is what is run.

#include <cstdint>
#include <span>
#include <vector>

#include "fpdist/plan/op.hpp"
#include "fpdist/plan/schedule.hpp"

namespace fpdist::plan {

/// A unit is a pack or a slice of one.
struct UnitRef {
  int32_t pack = 0, slice = 0;
};

struct UnitOrder {
  std::vector<UnitRef> unit;      ///< [n] forward order
  std::vector<int32_t> backward;  ///< [n] units: packs in order, a pack's slices in reverse
  std::vector<int32_t> needed;    ///< [n] forwards that the j-th backward needs: all up to the end of its pack
};
UnitOrder unit_order(std::span<const int> slices);

/// One computation of a stage: kind is kForward, kBackwardInput or kBackwardWeight.
struct ComputeOp {
  OpKind kind;
  int32_t unit, run;
};

/// [stages] what each stage computes, in order. The shape must be one that why_not() accepts.
std::vector<std::vector<ComputeOp>> compute_order(const PipelineShape& shape, const UnitOrder& order);

/// What every stage computes in a pass without gradients.
std::vector<ComputeOp> forward_order(const PipelineShape& shape, const UnitOrder& order);

}  // namespace fpdist::plan
