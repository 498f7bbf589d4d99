#pragma once
// trainer (private): StepGuard, which steps are left out (train.on_nan, train.on_spike) and when that is too many.
// Pure: it is told every step's gradient norm.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "fpdist/trainer/options.hpp"
#include "src/trainer/planning/step_end.hpp"

namespace fpdist::trainer {

/// All that StepGuard remembers, for a later process to go on from.
struct GuardState {
  std::vector<double> recent_norms;  ///< of steps that updated, newest last
  int64_t skipped = 0;               ///< steps that were left out
};

class StepGuard {
 public:
  static constexpr size_t kRecent = 50;  ///< norms whose median is the usual one
  static constexpr size_t kLeast = 10;   ///< so many must be known before a norm can be a spike

  explicit StepGuard(const TrainOptions& options, GuardState state = {});
  /// Gradient norms above it are spikes: train.spike_factor times the median of the recent ones, so that neither one
  /// large norm that was let through nor the fall of the first steps moves what is usual by much; infinity with
  /// on_spike off and while too few are known. Known ahead of the step: nobody waits for it.
  double most_norm() const;
  /// The step has updated with a gradient of this norm.
  void updated(double norm);
  /// The step has updated nothing, `end` says why. Whether the run goes on without it: it counts as left out then.
  bool leave_out(StepEnd end);
  /// Why it does not: "train.on_nan is stop", or how many were left out before.
  std::string why_it_stops(StepEnd end) const;
  const GuardState& state() const { return state_; }

 private:
  bool may_skip(StepEnd end) const;
  bool skips_nan_, skips_spikes_;
  double factor_;
  int64_t most_skipped_;
  GuardState state_;
};

}  // namespace fpdist::trainer
