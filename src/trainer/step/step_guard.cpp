#include "src/trainer/step/step_guard.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include "fpdist/core/error.hpp"

namespace fpdist::trainer {

StepGuard::StepGuard(const TrainOptions& options, GuardState state)
    : skips_nan_(options.on_nan == "skip"),
      skips_spikes_(options.on_spike == "skip"),
      factor_(options.spike_factor),
      most_skipped_(options.max_skipped),
      state_(std::move(state)) {}

double StepGuard::most_norm() const {
  if (!skips_spikes_ || state_.recent_norms.size() < kLeast) return std::numeric_limits<double>::infinity();
  std::vector<double> norms = state_.recent_norms;
  const auto middle = norms.begin() + static_cast<std::ptrdiff_t>(norms.size() / 2);
  std::nth_element(norms.begin(), middle, norms.end());
  return factor_ * *middle;
}

void StepGuard::updated(double norm) {
  if (!skips_spikes_) return;
  std::vector<double>& norms = state_.recent_norms;
  norms.push_back(norm);
  if (norms.size() > kRecent) norms.erase(norms.begin());
}

bool StepGuard::may_skip(StepEnd end) const { return end == StepEnd::kSpike ? skips_spikes_ : skips_nan_; }

bool StepGuard::leave_out(StepEnd end) {
  if (!may_skip(end) || state_.skipped >= most_skipped_) return false;
  ++state_.skipped;
  return true;
}

std::string StepGuard::why_it_stops(StepEnd end) const {
  if (!may_skip(end)) return "train.on_nan is stop";
  return text(state_.skipped, " steps were left out before, train.max_skipped is ", most_skipped_);
}

}  // namespace fpdist::trainer
