#pragma once
// trainer (private): who is told a run's numbers while it goes on: metrics.jsonl, TensorBoard, Prometheus.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "fpdist/core/log.hpp"
#include "fpdist/trainer/options.hpp"
#include "fpdist/trainer/trainer.hpp"

namespace fpdist::trainer {

/// Takes the lines that are logged, each once, in the order of the steps: those of training steps, and those of
/// evaluations, whose names all begin with "eval_".
class Reporter {
 public:
  virtual ~Reporter() = default;
  /// What it writes is with the system when this returns. Throws DiskError.
  virtual void report(const StepMetrics& metrics) = 0;
  /// Behind the last line. Throws DiskError for what the disk says only now.
  virtual void close() = 0;
};

/// What reporters know of their run.
struct ReportedRun {
  std::string method;       ///< "dpo"
  std::string config_yaml;  ///< config.resolved.yaml
  /// Steps that the run begins behind, 0 unless it resumes: numbers of later ones that an earlier process wrote are
  /// void. Those of metrics.jsonl are gone already.
  int64_t steps_done = 0;
};

/// Those of options.report_to, in options.output_dir, which is there. The error of metrics.jsonl is thrown, here and
/// later; `log` hears once of the other ones', and training goes on without what cannot be written.
class Reporters {
 public:
  /// Throws DiskError.
  Reporters(const TrainOptions& options, const ReportedRun& run, LogSink& log);
  void report(const StepMetrics& metrics);  ///< throws DiskError
  void close();                             ///< throws DiskError

 private:
  std::vector<std::unique_ptr<Reporter>> reporters_;
};

/// One without which training goes on: the first error of making or using it goes to `log`, and nothing is asked of it
/// from then on.
class SparedReporter final : public Reporter {
 public:
  SparedReporter(const std::function<std::unique_ptr<Reporter>()>& make, LogSink& log);
  void report(const StepMetrics& metrics) override;
  void close() override;

 private:
  void attempt(const std::function<void()>& use);
  LogSink& log_;
  std::unique_ptr<Reporter> reporter_;  // null once it has failed
};

}  // namespace fpdist::trainer
