#include "fpdist/plan/schedule.hpp"

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/core/index.hpp"
#include "src/plan/schedule/compute_order.hpp"

namespace fpdist::plan {
namespace {

/// Writes one stage's list: a message right beside the computation that makes or needs what it carries.
class StageWriter {
 public:
  StageWriter(const PipelineShape& shape, const UnitOrder& order, int stage)
      : shape_(shape), order_(order), stage_(stage) {}

  void forward(const ComputeOp& op) {
    if (run_of(op) > 0) add(OpKind::kReceive, op, upstream());
    add(OpKind::kForward, op);
    if (run_of(op) < last_run()) add(OpKind::kSend, op, downstream());
  }
  void backward_input(const ComputeOp& op, bool completes) {
    if (run_of(op) < last_run()) add(OpKind::kReceiveGradient, op, downstream());
    add(OpKind::kBackwardInput, op, -1, completes);
  }
  void backward_weight(const ComputeOp& op, bool completes) { add(OpKind::kBackwardWeight, op, -1, completes); }
  void send_gradient(const ComputeOp& op) {
    if (run_of(op) > 0) add(OpKind::kSendGradient, op, upstream());
  }
  void reduce(int run) { ops_.push_back({OpKind::kReduceGradients, 0, 0, run}); }
  void finish() { ops_.push_back({OpKind::kOptimizerStep}); }
  std::vector<Op> take() { return std::move(ops_); }

 private:
  int run_of(const ComputeOp& op) const { return op.run * shape_.stages + stage_; }
  int last_run() const { return shape_.runs * shape_.stages - 1; }
  int upstream() const { return (stage_ + shape_.stages - 1) % shape_.stages; }
  int downstream() const { return (stage_ + 1) % shape_.stages; }
  void add(OpKind kind, const ComputeOp& op, int peer = -1, bool completes = false) {
    if (peer == stage_) return;
    const UnitRef unit = order_.unit[index(op.unit)];
    ops_.push_back({kind, unit.pack, unit.slice, op.run, peer, completes});
  }

  const PipelineShape& shape_;
  const UnitOrder& order_;
  int stage_;
  std::vector<Op> ops_;
};

std::vector<Op> stage_ops(const PipelineShape& shape, const UnitOrder& order, std::span<const ComputeOp> compute,
                          int stage) {
  std::vector<size_t> weights_left(index(shape.runs), order.unit.size());
  int to_reduce = shape.runs;  // runs below it are still to be reduced, the highest first
  StageWriter writer(shape, order, stage);
  const auto reduce_finished = [&] {
    while (to_reduce > 0 && weights_left[index(to_reduce - 1)] == 0) writer.reduce(--to_reduce);
  };
  const bool splits_backward = shape.schedule == Schedule::kZeroBubble;
  for (const ComputeOp& op : compute) {
    const bool is_last = weights_left[index(op.run)] == 1;  // of its run's backwards
    if (op.kind == OpKind::kForward) writer.forward(op);
    if (op.kind == OpKind::kBackwardInput) {
      writer.backward_input(op, is_last && !splits_backward);
      if (splits_backward) writer.send_gradient(op);
    }
    if (op.kind == OpKind::kBackwardWeight) {
      writer.backward_weight(op, is_last && splits_backward);
      if (!splits_backward) writer.send_gradient(op);
      --weights_left[index(op.run)];
      reduce_finished();
    }
  }
  reduce_finished();
  writer.finish();
  return writer.take();
}

std::string label(char letter, const Op& op) {
  return text(letter, op.pack, op.slice ? text('.', op.slice) : "", op.run ? text('@', op.run) : "");
}

}  // namespace

std::string why_not(const PipelineShape& shape) {
  if (shape.stages < 1 || shape.runs < 1 || shape.window < 1)
    return text("stages, runs and window must be 1 or more, got ", shape.stages, ", ", shape.runs, " and ",
                shape.window);
  for (size_t pack = 0; pack < shape.slices.size(); ++pack)
    if (shape.slices[pack] < 1)
      return text("pack ", pack, " has ", shape.slices[pack], " slices: a whole pack counts as 1");
  if (shape.schedule != Schedule::kInterleaved && shape.runs > 1)
    return text("the ", name_of(shape.schedule), " schedule holds one run of layers a stage, not ", shape.runs,
                ": set parallel.virtual_stages to 1 or parallel.schedule to interleaved");
  const int units = std::accumulate(shape.slices.begin(), shape.slices.end(), 0);
  const int over = units % shape.stages;
  if (shape.schedule == Schedule::kInterleaved && over != 0)
    return text("the interleaved schedule needs a multiple of ", shape.stages, " packs or slices, there are ", units,
                ": make ", shape.stages - over, " more or ", over, " fewer");
  return "";
}

std::vector<std::vector<Op>> pipeline_ops(const PipelineShape& shape) {
  const std::string reason = why_not(shape);
  check<ConfigError>(reason.empty(), reason);
  const UnitOrder order = unit_order(shape.slices);
  const std::vector<std::vector<ComputeOp>> compute = compute_order(shape, order);
  std::vector<std::vector<Op>> ops;
  for (int stage = 0; stage < shape.stages; ++stage)
    ops.push_back(stage_ops(shape, order, compute[index(stage)], stage));
  return ops;
}

std::vector<std::vector<Op>> forward_ops(const PipelineShape& shape) {
  const std::string reason = why_not(shape);
  check<ConfigError>(reason.empty(), reason);
  const UnitOrder order = unit_order(shape.slices);
  std::vector<std::vector<Op>> ops;
  for (int stage = 0; stage < shape.stages; ++stage) {
    StageWriter writer(shape, order, stage);
    for (const ComputeOp& op : forward_order(shape, order)) writer.forward(op);
    ops.push_back(writer.take());
  }
  return ops;
}

std::string to_string(const Op& op) {
  switch (op.kind) {
    case OpKind::kForward:
      return label('F', op);
    case OpKind::kBackwardInput:
      return label('B', op);
    case OpKind::kBackwardWeight:
      return label('W', op);
    case OpKind::kSend:
      return text(label('S', op), '>', op.peer);
    case OpKind::kReceive:
      return text(label('R', op), '<', op.peer);
    case OpKind::kSendGradient:
      return text('S', label('G', op), '>', op.peer);
    case OpKind::kReceiveGradient:
      return text('R', label('G', op), '<', op.peer);
    case OpKind::kReduceGradients:
      return text("reduce@", op.run);
    case OpKind::kOptimizerStep:
      return "step";
  }
  return "?";
}

std::string to_text(std::span<const std::vector<Op>> ops) {
  std::string all;
  for (size_t stage = 0; stage < ops.size(); ++stage) {
    all += text("stage ", stage, ':');
    for (const Op& op : ops[stage]) all += ' ' + to_string(op);
    all += '\n';
  }
  return all;
}

}  // namespace fpdist::plan
