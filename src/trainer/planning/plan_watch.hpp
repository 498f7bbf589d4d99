#pragma once
// trainer (private): steps' planned times held against their measured ones. Pure: it is told both.

#include <cstdint>
#include <deque>

namespace fpdist::trainer {

class PlanWatch {
 public:
  static constexpr int kPatience = 20;                  ///< steps in a row
  static constexpr double kTolerance = 0.1;             ///< of the planned time
  static constexpr size_t kRecent = 2 * kPatience + 1;  ///< steps whose median is the running scale

  /// Of a cost unit: fixed by a calibration, else the median over recent steps of measured seconds per planned unit;
  /// NaN before the first step. It tells people what to expect and never enters a plan.
  double seconds_per_unit() const;
  double fixed() const { return fixed_; }  ///< by a calibration; 0: by none
  double planned_seconds(int64_t units) const { return seconds_per_unit() * static_cast<double>(units); }
  /// Costs have changed, and with them the unit: forgets all steps.
  void fix(double seconds_per_unit);
  /// One step: planned with the scale as it was before. True when it is the last of kPatience steps in a row that took
  /// kTolerance more or less than planned; the count begins again. A step of nothing is passed over.
  bool add(int64_t planned_units, double measured_seconds);

 private:
  double fixed_ = 0;           // 0: running
  std::deque<double> recent_;  // seconds a unit, newest last
  int off_ = 0;                // steps in a row
};

}  // namespace fpdist::trainer
