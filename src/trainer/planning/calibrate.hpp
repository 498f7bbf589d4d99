#pragma once
// trainer (private): from a rank's op times to costs that all ranks share.

#include <deque>
#include <span>
#include <vector>

#include "fpdist/comm/communicator.hpp"
#include "src/parallel/pipeline/executor.hpp"
#include "src/plan/costs/calibration.hpp"
#include "src/trainer/planning/planned_step.hpp"

namespace fpdist::trainer {

/// This rank's compute ops of one step. Without the op that ends a run of layers' gradients where these are reduced
/// over other ranks in it: its time is theirs.
std::vector<plan::TimedOp> timed_ops(const PlannedStep& planned, const MeshShape& mesh, const Coordinates& at,
                                     std::span<const int64_t> layers, std::span<const plan::Op> ops,
                                     std::span<const parallel::OpTime> times);

/// Every rank's ops, in rank order, the same on all; of each rank `most` / ranks at most, drawn by `seed`. Collective.
std::vector<plan::TimedOp> gather_ops(std::vector<plan::TimedOp> own, int64_t most, uint64_t seed,
                                      comm::Communicator& world);

/// plan::fit_costs on rank 0, told to all. Collective.
plan::CostFit fit_together(std::span<const plan::TimedOp> ops, const plan::StageCosts& given,
                           comm::Communicator& world);

/// Op times of the last steps, newest last.
class OpHistory {
 public:
  /// The first step of a process is slower than any other: it counts only while it is the only one.
  void add(std::vector<plan::TimedOp> ops, size_t steps_kept);
  std::vector<plan::TimedOp> all() const;

 private:
  std::deque<std::vector<plan::TimedOp>> steps_;
  bool holds_first_ = false;
  bool is_used_ = false;
};

}  // namespace fpdist::trainer
