#include "src/plan/schedule/simulate.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "src/core/index.hpp"
#include "src/plan/schedule/program.hpp"

namespace fpdist::plan {

Simulation simulate(const PipelineShape& shape, std::span<const std::vector<Op>> ops, std::span<const UnitCost> units,
                    std::span<const int64_t> layers, bool with_events) {
  std::vector<int32_t> first;
  int32_t count = 0;
  for (const int slices : shape.slices) first.push_back(count), count += slices;
  std::vector<std::vector<ComputeOp>> order(ops.size());
  for (size_t s = 0; s < ops.size(); ++s)
    for (const Op& op : ops[s])
      if (op.kind == OpKind::kForward || op.kind == OpKind::kBackwardInput || op.kind == OpKind::kBackwardWeight)
        order[s].push_back({op.kind, first[index(op.pack)] + op.slice, op.run});
  return Program(shape, order).simulate(units, layers, with_events);
}

}  // namespace fpdist::plan
