#pragma once
// trainer: where a run stands, for whoever shows it while it goes on (Trainer::set_progress).

#include <cstdint>
#include <limits>
#include <string>

namespace fpdist::trainer {

struct RunProgress {
  int64_t step = 0, max_steps = 0;  ///< done, and in all
  std::string phase;                ///< what goes on now that is no step: "evaluating"; else empty
  double elapsed_seconds = 0;       ///< since this process's first step began
  double seconds_left = kUnknown;   ///< at this process's speed
  /// Moving averages over the steps, unknown ahead of the first.
  double loss = kUnknown, tokens_per_second = kUnknown;
  double sharing_ratio = kUnknown;  ///< of the last step
  std::string shown;                ///< the method's number that people watch, "accuracy 0.750", or nothing

  static constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
};

}  // namespace fpdist::trainer
