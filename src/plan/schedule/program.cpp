#include "src/plan/schedule/program.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <vector>

#include "src/core/index.hpp"

namespace fpdist::plan {
namespace {}  // namespace

Program::Program(const PipelineShape& shape) : Program(shape, compute_order(shape, unit_order(shape.slices))) {}

Program::Program(const PipelineShape& shape, std::span<const std::vector<ComputeOp>> order)
    : stages_(shape.stages), runs_(shape.runs), ref_(unit_order(shape.slices).unit) {
  units_ = static_cast<int>(ref_.size());
  const int32_t all_runs = stages_ * runs_, gradients = 2 + units_ * all_runs;
  const bool fused = shape.schedule != Schedule::kZeroBubble;
  end_.resize(index(2 + 2 * units_ * all_runs));
  stage_end_.resize(index(stages_));
  step_.reserve(order.empty() ? 0 : order.size() * order[0].size());
  std::vector<char> done(end_.size());
  done[0] = 1;
  std::vector<size_t> next(order.size());
  for (bool moved = true; moved;) {
    moved = false;
    for (int32_t s = 0; s < stages_; ++s) {
      const std::vector<ComputeOp>& list = order[index(s)];
      size_t i = next[index(s)];
      for (; i < list.size(); ++i) {
        const ComputeOp& op = list[i];
        if (op.kind == OpKind::kBackwardWeight && fused) continue;
        const int32_t run = op.run * stages_ + s, at = op.unit * all_runs + run;
        const bool is_last = run + 1 == all_runs;
        Step step{op.unit, 0,       1,    static_cast<int16_t>(run), static_cast<int16_t>(s), kWeightPass,
                  false,   is_last, false};
        if (op.kind == OpKind::kForward) {
          step.pass = kForwardPass;
          step.slot = 2 + at;
          step.after = run > 0 ? step.slot - 1 : 0;
        } else if (op.kind == OpKind::kBackwardInput) {
          step.pass = kInputPass;
          step.slot = gradients + at;
          step.after = is_last ? 0 : step.slot + 1;
          step.with_weight = fused;
        }
        if (!done[index(step.after)]) break;
        step.is_remote = step.after != 0 && stages_ > 1;
        done[index(step.slot)] = 1;
        step_.push_back(step);
      }
      moved = moved || i > next[index(s)];
      next[index(s)] = i;
    }
  }
  for (int32_t s = 0; s < stages_; ++s)
    if (next[index(s)] < order[index(s)].size()) throw std::logic_error("a schedule that waits for itself");
}

template <typename Visit>
int64_t Program::pass_over(std::span<const UnitCost> units, std::span<const int64_t> layers, Visit visit) {
  std::fill(stage_end_.begin(), stage_end_.end(), 0);
  int64_t* const end = end_.data();
  for (const Step& step : step_) {
    const UnitCost& cost = units[index(step.unit)];
    int64_t layer = cost.layer[index(step.pass)], head = cost.head[index(step.pass)];
    if (step.with_weight) layer += cost.layer[kWeightPass], head += cost.head[kWeightPass];
    const int64_t time = layers[index(step.run)] * layer + (step.is_last ? head : 0);
    int64_t& stage = stage_end_[index(step.stage)];
    const int64_t begin = std::max(stage, end[step.after]) + (step.is_remote ? cost.link : 0);
    stage = begin + time;
    end[step.slot] = stage;
    visit(step, begin, stage);
  }
  return step_.empty() ? 0 : *std::max_element(stage_end_.begin(), stage_end_.end());
}

int64_t Program::makespan(std::span<const UnitCost> units, std::span<const int64_t> layers) {
  return pass_over(units, layers, [](const Step&, int64_t, int64_t) {});
}

int64_t Program::peak_rows(std::span<const UnitCost> units) const {
  std::vector<int64_t> rows(index(stages_));
  int64_t peak = 0;
  // Within a stage the steps are in its own order; a fused backward ends what its forward began.
  for (const Step& step : step_) {
    int64_t& here = rows[index(step.stage)];
    if (step.pass == kForwardPass) peak = std::max(peak, here += units[index(step.unit)].rows);
    if (step.pass == kWeightPass || step.with_weight) here -= units[index(step.unit)].rows;
  }
  return (peak + runs_ - 1) / runs_;
}

std::vector<int64_t> Program::peak_row_layers(std::span<const UnitCost> units, std::span<const int64_t> layers) const {
  std::vector<int64_t> held(index(stages_)), peak(index(stages_));
  for (const Step& step : step_) {
    const auto stage = index(step.stage);
    const int64_t more = units[index(step.unit)].rows * layers[index(step.run)];
    if (step.pass == kForwardPass) peak[stage] = std::max(peak[stage], held[stage] += more);
    if (step.pass == kWeightPass || step.with_weight) held[stage] -= more;
  }
  return peak;
}

Simulation Program::simulate(std::span<const UnitCost> units, std::span<const int64_t> layers, bool with_events) {
  Simulation result;
  result.busy.resize(index(stages_));
  result.peak_rows = peak_rows(units);
  result.peak_row_layers = peak_row_layers(units, layers);
  result.makespan = pass_over(units, layers, [&](const Step& step, int64_t begin, int64_t end) {
    result.busy[index(step.stage)] += end - begin;
    if (!with_events) return;
    constexpr OpKind kKinds[] = {OpKind::kForward, OpKind::kBackwardInput, OpKind::kBackwardWeight};
    const UnitRef ref = ref_[index(step.unit)];
    result.events.push_back({step.stage,
                             {kKinds[step.pass], ref.pack, ref.slice, step.run / stages_},
                             static_cast<double>(begin),
                             static_cast<double>(end)});
  });
  return result;
}

}  // namespace fpdist::plan
