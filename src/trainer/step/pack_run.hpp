#pragma once
// trainer (private): PackRun, the packs of one step on one rank, as the executor's StepWork: policy forward and
// backward with the reference beside it, the loss at the end, the update behind them all.

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fpdist/comm/slow_work.hpp"
#include "src/parallel/pipeline/executor.hpp"
#include "src/trainer/planning/planned_step.hpp"
#include "src/trainer/step/pack_losses.hpp"
#include "src/trainer/step/packs.hpp"
#include "src/trainer/step/step_parts.hpp"
#include "src/trainer/step/step_results.hpp"

namespace fpdist::trainer {

/// How far a run goes: kLosses has no backward and leaves gradients as they are.
enum class RunUntil { kUpdate, kGradients, kLosses };

class PackRun final : public parallel::StepWork {
 public:
  /// A step's gradients begin anew, unless there will be none. `planned` and what `parts` names must outlive it.
  /// Collective where the loss looks at the whole step ahead of its terms (Objective::look).
  PackRun(const StepParts& parts, const PlannedStep& planned, RunUntil until = RunUntil::kUpdate);
  ~PackRun() override;
  PackRun(const PackRun&) = delete;
  PackRun& operator=(const PackRun&) = delete;

  /// What this rank does, in order.
  const std::vector<plan::Op>& ops() const { return ops_; }
  /// Ahead of op i: says where the rank stands.
  void before(size_t i);
  /// "step 3, op 17 of 40: Receive pack 2".
  const std::string& position() const { return position_; }

  at::Tensor forward(const plan::Op& op, const at::Tensor& input) override;
  at::Tensor backward_input(const plan::Op& op, const at::Tensor& grad_output) override;
  void backward_weight(const plan::Op& op) override;
  void reduce_gradients(const plan::Op& op) override;
  void optimizer_step() override;
  void queued() override;
  void finished(std::span<const double> seconds) override;
  at::Tensor buffer(const plan::Op& op, bool gradient) override;

  /// The packs' sums; metrics are there once the list is done.
  const StepResults& results() const { return results_; }
  double learning_rate() const { return parts_.job.config.optim.learning_rate * factor(); }
  /// An op that waited for weights on their way, and how long: part of its time, but none of its work.
  struct WaitedOp {
    size_t op = 0;
    double seconds = 0;
  };
  const std::vector<WaitedOp>& waits() const { return waits_; }
  /// Seconds of these waits, and of what the optimizer step sent.
  double exchange_seconds() const { return exchange_seconds_; }

 private:
  /// The reference's rows travel behind the policy's.
  bool rides(const Pack& pack) const {
    return parts_.reference.is_there() && (pack.lacks_reference || parts_.objective.needs().base_kl);
  }
  /// The rank's next op is the backward of the forward under way: what that keeps is soon used up.
  bool is_backward_next() const;
  /// Of the peak learning rates.
  double factor() const { return parts_.schedule->factor(planned_.number - 1); }
  model::Transformer& policy(const plan::Op& op) const { return *parts_.weights.runs()[static_cast<size_t>(op.run)]; }

  StepParts parts_;
  const PlannedStep& planned_;
  RunUntil until_;
  std::optional<comm::SlowWork> first_step_;  // kernels are loaded, buffers made: until all is queued
  std::vector<plan::Op> ops_;
  std::shared_ptr<Packs> packs_;
  loss::View step_;  // of the step, as the loss has taken it down
  StepResults results_;
  PackLosses losses_;
  size_t at_ = 0;  // the op under way
  std::string position_;
  std::vector<std::pair<size_t, Exchanged>> weight_waits_;  // by op
  double exchange_seconds_ = 0;
  std::vector<WaitedOp> waits_;
};

}  // namespace fpdist::trainer
