#pragma once
// trainer (private): a run's progress from its steps.

#include <cstdint>
#include <string>

#include "fpdist/loss/spec.hpp"
#include "fpdist/trainer/run_progress.hpp"
#include "fpdist/trainer/trainer.hpp"

namespace fpdist::trainer {

/// The mean of what was added, of which every value counts `kKeep` times the one after it. It does not lean to 0 at
/// first: the weights add up to 1 from the first value on. What is not finite is passed over.
class MovingAverage {
 public:
  void add(double value);
  double value() const;  ///< NaN ahead of the first

 private:
  static constexpr double kKeep = 0.9;
  double sum_ = 0, weight_ = 0;
};

/// Told every step of a process, in order.
class ProgressWatch {
 public:
  /// `steps_done`: by the run before this process; `shown`: the number that is shown beside the loss.
  ProgressWatch(int64_t steps_done, int64_t max_steps, const loss::Shown& shown);
  const RunProgress& after_step(const StepMetrics& metrics, double elapsed_seconds);
  /// From now on; empty: steps again.
  const RunProgress& in_phase(const std::string& phase, double elapsed_seconds);

 private:
  int64_t steps_done_;
  loss::Shown shown_;
  MovingAverage loss_, tokens_;
  RunProgress progress_;
};

}  // namespace fpdist::trainer
