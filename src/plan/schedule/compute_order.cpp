#include "src/plan/schedule/compute_order.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "src/core/index.hpp"

namespace fpdist::plan {
namespace {

struct Turn {
  int32_t unit, run;
};

/// Units by groups of p, each group through all runs before the next one; with one run simply the units in order.
std::vector<Turn> by_groups(std::span<const int32_t> units, int p, int v, bool runs_descend) {
  std::vector<Turn> turns;
  turns.reserve(units.size() * index(v));
  for (size_t begin = 0; begin < units.size(); begin += index(p)) {
    const size_t end = std::min(units.size(), begin + index(p));
    for (int32_t i = 0; i < v; ++i)
      for (size_t u = begin; u < end; ++u) turns.push_back({units[u], runs_descend ? v - 1 - i : i});
  }
  return turns;
}

/// Forwards that an interleaved stage is ahead of its backwards. It has to be the same number all the way: where it
/// flattens out, a pack with many slices waits for itself.
int32_t interleaved_lead(const PipelineShape& shape, std::span<const Turn> forward, std::span<const Turn> backward) {
  const int32_t v = shape.runs;
  std::vector<int32_t> position(forward.size());
  for (size_t i = 0; i < forward.size(); ++i)
    position[index(forward[i].unit * v + forward[i].run)] = static_cast<int32_t>(i);
  int32_t lead = (v - 1) * shape.stages + shape.window;
  for (size_t j = 0; j < backward.size(); ++j)
    lead = std::max(lead, position[index(backward[j].unit * v + backward[j].run)] + 1 - static_cast<int32_t>(j));
  return lead;
}

std::vector<Turn> forward_turns(const PipelineShape& shape, const UnitOrder& order) {
  std::vector<int32_t> units(order.unit.size());
  for (size_t u = 0; u < units.size(); ++u) units[u] = static_cast<int32_t>(u);
  return by_groups(units, shape.stages, shape.runs, false);
}

std::vector<ComputeOp> stage_order(const PipelineShape& shape, const UnitOrder& order, std::span<const Turn> forward,
                                   std::span<const Turn> backward, int32_t lead, int stage) {
  const bool interleaved = shape.schedule == Schedule::kInterleaved;
  const int32_t downstream = shape.stages - 1 - stage;
  // ZB-H1 keeps as many weight gradients back as there are stages upstream; the others none.
  const size_t most_pending = shape.schedule == Schedule::kZeroBubble ? index(stage) : 0;

  std::vector<ComputeOp> ops;
  ops.reserve(3 * forward.size());
  size_t forwards = 0, weights = 0;
  const auto add_weights = [&](size_t until) {
    for (; weights < until; ++weights)
      ops.push_back({OpKind::kBackwardWeight, backward[weights].unit, backward[weights].run});
  };
  for (size_t j = 0; j < backward.size(); ++j) {
    const auto at = static_cast<int32_t>(j);
    const int32_t wanted =
        interleaved ? at + lead + 2 * downstream : std::max(order.needed[j], at + shape.window) + downstream;
    for (; forwards < std::min(forward.size(), index(wanted)); ++forwards)
      ops.push_back({OpKind::kForward, forward[forwards].unit, forward[forwards].run});
    ops.push_back({OpKind::kBackwardInput, backward[j].unit, backward[j].run});
    if (j + 1 > most_pending) add_weights(j + 1 - most_pending);
  }
  add_weights(backward.size());
  return ops;
}

}  // namespace

UnitOrder unit_order(std::span<const int> slices) {
  UnitOrder order;
  for (size_t pack = 0; pack < slices.size(); ++pack) {
    for (int slice = 0; slice < slices[pack]; ++slice) order.unit.push_back({static_cast<int32_t>(pack), slice});
    const auto end = static_cast<int32_t>(order.unit.size());
    for (int slice = 1; slice <= slices[pack]; ++slice) {
      order.backward.push_back(end - slice);
      order.needed.push_back(end);
    }
  }
  return order;
}

std::vector<std::vector<ComputeOp>> compute_order(const PipelineShape& shape, const UnitOrder& order) {
  const std::vector<Turn> forward = forward_turns(shape, order);
  const std::vector<Turn> backward = by_groups(order.backward, shape.stages, shape.runs, true);
  const int32_t lead = shape.schedule == Schedule::kInterleaved ? interleaved_lead(shape, forward, backward) : 0;
  std::vector<std::vector<ComputeOp>> stages;
  for (int stage = 0; stage < shape.stages; ++stage)
    stages.push_back(stage_order(shape, order, forward, backward, lead, stage));
  return stages;
}

std::vector<ComputeOp> forward_order(const PipelineShape& shape, const UnitOrder& order) {
  std::vector<ComputeOp> ops;
  for (const Turn& turn : forward_turns(shape, order)) ops.push_back({OpKind::kForward, turn.unit, turn.run});
  return ops;
}

}  // namespace fpdist::plan
