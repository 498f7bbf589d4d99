#include <algorithm>
#include <array>
#include <cstddef>
#include <deque>
#include <span>
#include <string>
#include <vector>

#include "fpdist/core/error.hpp"
#include "fpdist/plan/schedule.hpp"
#include "src/core/index.hpp"
#include "src/plan/schedule/compute_order.hpp"

namespace fpdist::plan {
namespace {

bool is_forward_kind(OpKind kind) {
  return kind == OpKind::kForward || kind == OpKind::kSend || kind == OpKind::kReceive;
}

/// What has happened to one unit in one run of layers.
struct Progress {
  bool has_rows = false, forward = false, sent = false;
  bool has_gradient = false, backward = false, weight = false, gradient_sent = false;
};

/// Runs the lists, one op of one stage at a time, for as long as any stage can go on.
class Validator {
 public:
  Validator(const PipelineShape& shape, std::span<const std::vector<Op>> ops, int window_units)
      : shape_(shape), ops_(ops), order_(unit_order(shape.slices)), most_in_flight_(window_units * shape.runs) {
    for (const int slices : shape.slices) {
      first_unit_.push_back(units_);
      units_ += slices;
    }
    all_runs_ = shape.stages * shape.runs;
    progress_.resize(index(units_) * index(all_runs_));
    stage_.resize(index(shape.stages));
    for (StageState& stage : stage_) stage.to_reduce = shape.runs, stage.completed.resize(index(shape.runs));
    for (auto& channels : channel_) channels.resize(index(shape.stages) * index(shape.stages));
    only_forward_ = std::all_of(ops.begin(), ops.end(), [](const std::vector<Op>& list) {
      return std::all_of(list.begin(), list.end(), [](const Op& op) { return is_forward_kind(op.kind); });
    });
  }

  std::string run() {
    for (bool moved = true; moved;) {
      moved = false;
      for (int s = 0; s < shape_.stages; ++s) {
        while (stage_[index(s)].next < ops_[index(s)].size()) {
          at_ = s;
          waits_ = false;
          const std::string wrong = step(here());
          if (!wrong.empty())
            return text("stage ", s, ", op ", stage_[index(s)].next, " (", to_string(here()), "): ", wrong);
          if (waits_) break;
          ++stage_[index(s)].next;
          moved = true;
        }
      }
    }
    const std::string stuck = deadlock();
    return stuck.empty() ? incomplete() : stuck;
  }

 private:
  struct StageState {
    size_t next = 0;
    int in_flight = 0, to_reduce = 0;
    bool stepped = false;
    std::vector<bool> completed;  ///< [runs] an op has said that the run's gradients are all there
  };
  struct Sent {
    int unit, run;  ///< the run that receives
  };
  enum Direction { kRows, kGradients };

  const Op& here() const { return ops_[index(at_)][stage_[index(at_)].next]; }
  int unit_of(const Op& op) const { return first_unit_[index(op.pack)] + op.slice; }
  int run_of(const Op& op) const { return op.run * shape_.stages + at_; }
  Progress& progress(int unit, int run) { return progress_[index(unit) * index(all_runs_) + index(run)]; }
  std::deque<Sent>& channel(Direction direction, int from, int to) {
    return channel_[direction][index(from * shape_.stages + to)];
  }
  /// Whether all runs are on one rank, where nothing travels.
  bool is_local() const { return shape_.stages == 1; }

  std::string step(const Op& op) {
    if (stage_[index(at_)].stepped) return "comes after the optimizer step";
    if (op.run < 0 || op.run >= shape_.runs) return text("there is no run ", op.run);
    const std::string wrong = completion(op);
    if (!wrong.empty()) return wrong;
    if (op.kind == OpKind::kReduceGradients) return reduce(op.run);
    if (op.kind == OpKind::kOptimizerStep) return optimizer_step();
    if (op.pack < 0 || index(op.pack) >= shape_.slices.size()) return text("there is no pack ", op.pack);
    if (op.slice < 0 || op.slice >= shape_.slices[index(op.pack)])
      return text("pack ", op.pack, " has no slice ", op.slice);
    switch (op.kind) {
      case OpKind::kForward:
        return forward(op);
      case OpKind::kBackwardInput:
        return backward_input(op);
      case OpKind::kBackwardWeight:
        return backward_weight(op);
      case OpKind::kSend:
        return send(op, kRows, run_of(op) + 1);
      case OpKind::kSendGradient:
        return send(op, kGradients, run_of(op) - 1);
      case OpKind::kReceive:
        return receive(op, kRows, run_of(op) - 1);
      default:
        return receive(op, kGradients, run_of(op) + 1);
    }
  }

  std::string completion(const Op& op) {
    const bool splits_backward = shape_.schedule == Schedule::kZeroBubble;
    if (op.kind != (splits_backward ? OpKind::kBackwardWeight : OpKind::kBackwardInput))
      return op.completes ? "cannot complete its run's gradients" : "";
    std::vector<bool>& completed = stage_[index(at_)].completed;
    if (completed[index(op.run)]) return "comes after the op that completes its run's gradients";
    completed[index(op.run)] = op.completes;
    return "";
  }

  std::string forward(const Op& op) {
    const int run = run_of(op), unit = unit_of(op);
    Progress& state = progress(unit, run);
    if (state.forward) return "runs forward a second time";
    const bool arrived = is_local() ? run == 0 || progress(unit, run - 1).forward : run == 0 || state.has_rows;
    if (!arrived) return "its rows have not been received";
    if (op.slice > 0 && !progress(unit - 1, run).forward) return "the slice before it has not gone forward";
    state.forward = true;
    StageState& stage = stage_[index(at_)];
    ++stage.in_flight;
    if (most_in_flight_ > 0 && !only_forward_ && stage.in_flight > most_in_flight_)
      return text("makes ", stage.in_flight, " runs of units in flight, the window is ", most_in_flight_);
    return "";
  }

  std::string backward_input(const Op& op) {
    const int run = run_of(op), unit = unit_of(op);
    Progress& state = progress(unit, run);
    if (!state.forward) return "goes backward before its forward";
    if (state.backward) return "goes backward a second time";
    const bool arrived = is_local() ? run == all_runs_ - 1 || progress(unit, run + 1).backward
                                    : run == all_runs_ - 1 || state.has_gradient;
    if (!arrived) return "its gradient has not been received";
    if (op.slice + 1 < shape_.slices[index(op.pack)] && !progress(unit + 1, run).backward)
      return "the slice after it has not gone backward";
    state.backward = true;
    return "";
  }

  std::string backward_weight(const Op& op) {
    Progress& state = progress(unit_of(op), run_of(op));
    if (!state.backward) return "weight gradient before its input gradient";
    if (state.weight) return "weight gradient a second time";
    state.weight = true;
    --stage_[index(at_)].in_flight;
    return "";
  }

  std::string send(const Op& op, Direction direction, int to_run) {
    if (is_local() || to_run < 0 || to_run >= all_runs_) return "no other stage is waiting for it";
    if (op.peer != to_run % shape_.stages)
      return text("goes to stage ", op.peer, ", stage ", to_run % shape_.stages, " needs it");
    Progress& state = progress(unit_of(op), run_of(op));
    if (!(direction == kRows ? state.forward : state.backward)) return "is sent before it is computed";
    bool& sent = direction == kRows ? state.sent : state.gradient_sent;
    if (sent) return "is sent a second time";
    sent = true;
    channel(direction, at_, op.peer).push_back({unit_of(op), to_run});
    return "";
  }

  std::string receive(const Op& op, Direction direction, int from_run) {
    if (is_local() || from_run < 0 || from_run >= all_runs_) return "no other stage sends it";
    if (op.peer != from_run % shape_.stages)
      return text("waits for stage ", op.peer, ", stage ", from_run % shape_.stages, " sends it");
    std::deque<Sent>& messages = channel(direction, op.peer, at_);
    waits_ = messages.empty();
    if (waits_) return "";
    const Sent first = messages.front();
    if (first.unit != unit_of(op) || first.run != run_of(op)) {
      const UnitRef unit = order_.unit[index(first.unit)];
      return text("stage ", op.peer, " sends pack ", unit.pack, " slice ", unit.slice, " for run ",
                  first.run / shape_.stages, " first: messages must be received in the order in which they are sent");
    }
    messages.pop_front();
    Progress& state = progress(unit_of(op), run_of(op));
    (direction == kRows ? state.has_rows : state.has_gradient) = true;
    return "";
  }

  std::string reduce(int run) {
    StageState& stage = stage_[index(at_)];
    if (run != stage.to_reduce - 1) return "gradients are reduced once, runs in descending order";
    for (int unit = 0; unit < units_; ++unit)
      if (!progress(unit, run * shape_.stages + at_).weight) return "reduces before the last weight gradient";
    if (units_ > 0 && !stage.completed[index(run)]) return "reduces gradients that no op completes";
    --stage.to_reduce;
    return "";
  }

  std::string optimizer_step() {
    StageState& stage = stage_[index(at_)];
    if (stage.to_reduce > 0) return text("steps before run ", stage.to_reduce - 1, " is reduced");
    stage.stepped = true;
    return "";
  }

  std::string deadlock() const {
    std::string waiting;
    for (int s = 0; s < shape_.stages; ++s) {
      const size_t next = stage_[index(s)].next;
      if (next < ops_[index(s)].size())
        waiting += text(waiting.empty() ? "deadlock: " : ", ", "stage ", s, " waits at op ", next, " (",
                        to_string(ops_[index(s)][next]), ")");
    }
    return waiting;
  }

  std::string incomplete() {
    for (int run = 0; run < all_runs_; ++run) {
      for (int unit = 0; unit < units_; ++unit) {
        const Progress& state = progress(unit, run);
        const char* missing = !state.forward                  ? "goes forward"
                              : only_forward_ || state.weight ? nullptr
                              : !state.backward               ? "goes backward"
                                                              : "gets its weight gradient";
        const UnitRef ref = order_.unit[index(unit)];
        if (missing)
          return text("stage ", run % shape_.stages, ", end of list: pack ", ref.pack, " slice ", ref.slice, " never ",
                      missing, " in run ", run / shape_.stages);
      }
    }
    for (int s = 0; s < shape_.stages && !only_forward_; ++s)
      if (!stage_[index(s)].stepped) return text("stage ", s, ", end of list: no optimizer step");
    for (int from = 0; from < shape_.stages; ++from)
      for (int to = 0; to < shape_.stages; ++to)
        for (const Direction direction : {kRows, kGradients})
          if (!channel(direction, from, to).empty())
            return text("stage ", to, ", end of list: never receives ", direction == kRows ? "rows" : "a gradient",
                        " of pack ", order_.unit[index(channel(direction, from, to).front().unit)].pack, " from stage ",
                        from);
    return "";
  }

  const PipelineShape& shape_;
  std::span<const std::vector<Op>> ops_;
  UnitOrder order_;
  int most_in_flight_, units_ = 0, all_runs_ = 0, at_ = 0;
  bool only_forward_ = false, waits_ = false;
  std::vector<int> first_unit_;
  std::vector<Progress> progress_;
  std::vector<StageState> stage_;
  std::array<std::vector<std::deque<Sent>>, 2> channel_;
};

}  // namespace

std::string validate_ops(const PipelineShape& shape, std::span<const std::vector<Op>> ops, int window_units) {
  std::string reason = why_not(shape);
  if (!reason.empty()) return reason;
  if (ops.size() != index(shape.stages))
    return text("there are ", ops.size(), " op lists for ", shape.stages, " stages");
  return Validator(shape, ops, window_units).run();
}

}  // namespace fpdist::plan
