#pragma once
// parallel: runs one rank's op list as it stands. Sends are posted and do not hold the rank up; receives are posted
// ahead of the computing op before them, so that they travel meanwhile, and block where they stand. Shapes come from
// the plan, none is exchanged.

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "fpdist/comm/communicator.hpp"
#include "fpdist/comm/device.hpp"
#include "fpdist/plan/op.hpp"

namespace fpdist::parallel {

/// What the compute ops of a list do; whoever holds the stages and the loss implements it.
class StepWork {
 public:
  virtual ~StepWork() = default;
  /// Rows of run `op.run` from the previous run's (undefined on the first run of the model). What it returns goes to
  /// the next run; the last run of the model may return an undefined tensor.
  virtual at::Tensor forward(const plan::Op& op, const at::Tensor& input) = 0;
  /// Gradient of forward's input from that of its output (undefined on the last run of the model); undefined on the
  /// first.
  virtual at::Tensor backward_input(const plan::Op& op, const at::Tensor& grad_output) = 0;
  virtual void backward_weight(const plan::Op& op) = 0;
  virtual void reduce_gradients(const plan::Op& op) = 0;
  virtual void optimizer_step() = 0;
  /// A buffer for the rows (`gradient`: for their gradient) that op's message brings.
  virtual at::Tensor buffer(const plan::Op& op, bool gradient) = 0;
  /// All of the list is queued. What is read back from the device here is the host's one wait for it.
  virtual void queued() {}
  /// The list is done: when the device reached each point that was marked since, by number (comm::Device::mark).
  virtual void finished(std::span<const double>) {}
};

/// What op lists run on: two communicators of the pp axis, for rows and for their gradients, and the rank's device.
struct ExecutorAxes {
  comm::Communicator &rows, &gradients;
  comm::Device& device;
};

/// When an op ran, in seconds of the device since execute was entered.
struct OpTime {
  double begin = 0, end = 0;
};

/// Collective over the axis in that every rank of it runs its own list of the same pipeline_ops. `runs`: runs of
/// layers a rank holds. `before(i)` is called ahead of op i. Every op is a range of its own in a profile. Returns when
/// the device has done the last op. Throws what the work and the communicators throw; std::logic_error for a list that
/// consumes what was never made.
std::vector<OpTime> execute(std::span<const plan::Op> ops, int runs, StepWork& work, const ExecutorAxes& axes,
                            const std::function<void(size_t)>& before = {});

}  // namespace fpdist::parallel
