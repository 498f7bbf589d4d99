#pragma once
// trainer (private): a run's newest numbers for Prometheus' textfile collector.

#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "src/core/clock.hpp"
#include "src/trainer/watch/reporter.hpp"

namespace fpdist::trainer {

using PrometheusLabels = std::vector<std::pair<std::string, std::string>>;

/// The text exposition format 0.0.4: a gauge a number, called fpdist_<name> with '_' for what names may not hold, and
/// the step. What is not a number is NaN or Inf, as the format has it.
std::string prometheus_text(const StepMetrics& metrics, const PrometheusLabels& labels);

/// A file that always holds the newest number of every name, of evaluations too, replaced as a whole: at most once a
/// second, and at the end.
class PrometheusFile final : public Reporter {
 public:
  /// Throws DiskError, ahead of the first step where nothing can be written there. `step`: that the run begins behind.
  PrometheusFile(std::string path, PrometheusLabels labels, int64_t step);
  void report(const StepMetrics& metrics) override;
  void close() override;

 private:
  void write();
  std::string path_;
  PrometheusLabels labels_;
  StepMetrics newest_;
  Clock::time_point written_;
};

}  // namespace fpdist::trainer
