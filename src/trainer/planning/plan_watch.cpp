#include "src/trainer/planning/plan_watch.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace fpdist::trainer {

double PlanWatch::seconds_per_unit() const {
  if (fixed_ > 0) return fixed_;
  if (recent_.empty()) return std::numeric_limits<double>::quiet_NaN();
  std::vector<double> sorted(recent_.begin(), recent_.end());
  const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
  std::nth_element(sorted.begin(), middle, sorted.end());
  return *middle;
}

void PlanWatch::fix(double seconds_per_unit) {
  fixed_ = seconds_per_unit, off_ = 0;
  recent_.clear();
}

bool PlanWatch::add(int64_t planned_units, double measured_seconds) {
  if (planned_units <= 0 || !(measured_seconds > 0)) return false;
  const double planned = planned_seconds(planned_units);
  const bool is_off = std::abs(measured_seconds - planned) > kTolerance * planned;  // false while nothing is known
  off_ = is_off ? off_ + 1 : 0;
  recent_.push_back(measured_seconds / static_cast<double>(planned_units));
  if (recent_.size() > kRecent) recent_.pop_front();
  if (off_ < kPatience) return false;
  off_ = 0;
  return true;
}

}  // namespace fpdist::trainer
