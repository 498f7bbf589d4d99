#include "src/plan/compute_order.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace fpdist::plan {
namespace {

size_t index(int32_t i) { return static_cast<size_t>(i); }

struct Run {
  int32_t unit, chunk;
};

/// Units by groups of p, each group through all chunks before the next one; with one chunk simply the units in order.
std::vector<Run> by_groups(std::span<const int32_t> units, int p, int v, bool chunks_descend) {
  std::vector<Run> runs;
  runs.reserve(units.size() * static_cast<size_t>(v));
  for (size_t begin = 0; begin < units.size(); begin += static_cast<size_t>(p)) {
    const size_t end = std::min(units.size(), begin + static_cast<size_t>(p));
    for (int32_t i = 0; i < v; ++i)
      for (size_t u = begin; u < end; ++u) runs.push_back({units[u], chunks_descend ? v - 1 - i : i});
  }
  return runs;
}

/// How many forwards an interleaved stage is ahead of its backwards. It has to be the same number all the way: where it
/// flattens out, a pack with many slices waits for itself.
int32_t interleaved_lead(const PipelineShape& shape, std::span<const Run> forward, std::span<const Run> backward) {
  const int32_t v = shape.chunks;
  std::vector<int32_t> position(forward.size());
  for (size_t i = 0; i < forward.size(); ++i)
    position[index(forward[i].unit * v + forward[i].chunk)] = static_cast<int32_t>(i);
  int32_t lead = (v - 1) * shape.stages + shape.window;
  for (size_t j = 0; j < backward.size(); ++j)
    lead = std::max(lead, position[index(backward[j].unit * v + backward[j].chunk)] + 1 - static_cast<int32_t>(j));
  return lead;
}

std::vector<Run> forward_runs(const PipelineShape& shape, const UnitOrder& order) {
  std::vector<int32_t> units(order.unit.size());
  for (size_t u = 0; u < units.size(); ++u) units[u] = static_cast<int32_t>(u);
  return by_groups(units, shape.stages, shape.chunks, false);
}

std::vector<ComputeOp> stage_order(const PipelineShape& shape, const UnitOrder& order, std::span<const Run> forward,
                                   std::span<const Run> backward, int32_t lead, int stage) {
  const bool interleaved = shape.schedule == Schedule::kInterleaved;
  const int32_t downstream = shape.stages - 1 - stage;
  // ZB-H1 keeps as many weight gradients back as there are stages upstream; the others none.
  const size_t most_pending = shape.schedule == Schedule::kZeroBubble ? static_cast<size_t>(stage) : 0;

  std::vector<ComputeOp> ops;
  ops.reserve(3 * forward.size());
  size_t forwards = 0, weights = 0;
  const auto add_weights = [&](size_t until) {
    for (; weights < until; ++weights)
      ops.push_back({OpKind::kBackwardWeight, backward[weights].unit, backward[weights].chunk});
  };
  for (size_t j = 0; j < backward.size(); ++j) {
    const auto at = static_cast<int32_t>(j);
    const int32_t wanted =
        interleaved ? at + lead + 2 * downstream : std::max(order.needed[j], at + shape.window) + downstream;
    for (; forwards < std::min(forward.size(), index(wanted)); ++forwards)
      ops.push_back({OpKind::kForward, forward[forwards].unit, forward[forwards].chunk});
    ops.push_back({OpKind::kBackwardInput, backward[j].unit, backward[j].chunk});
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
  const std::vector<Run> forward = forward_runs(shape, order);
  const std::vector<Run> backward = by_groups(order.backward, shape.stages, shape.chunks, true);
  const int32_t lead = shape.schedule == Schedule::kInterleaved ? interleaved_lead(shape, forward, backward) : 0;
  std::vector<std::vector<ComputeOp>> stages;
  for (int stage = 0; stage < shape.stages; ++stage)
    stages.push_back(stage_order(shape, order, forward, backward, lead, stage));
  return stages;
}

std::vector<ComputeOp> forward_order(const PipelineShape& shape, const UnitOrder& order) {
  std::vector<ComputeOp> ops;
  for (const Run& run : forward_runs(shape, order)) ops.push_back({OpKind::kForward, run.unit, run.chunk});
  return ops;
}

}  // namespace fpdist::plan
