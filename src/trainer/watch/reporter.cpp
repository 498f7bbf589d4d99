#include "src/trainer/watch/reporter.hpp"

#include <algorithm>
#include <filesystem>

#include "fpdist/core/error.hpp"
#include "src/trainer/watch/metrics_file.hpp"
#include "src/trainer/watch/prometheus.hpp"
#include "src/trainer/watch/tensorboard.hpp"

namespace fpdist::trainer {
namespace {

/// What people call the run: the last folder of its path.
std::string name_of_run(const std::string& output_dir) {
  const auto path = (std::filesystem::absolute(output_dir) / "").lexically_normal();
  return path.parent_path().filename().string();
}

}  // namespace

Reporters::Reporters(const TrainOptions& options, const ReportedRun& run, LogSink& log) {
  const auto is_asked_for = [&](const char* name) {
    return std::find(options.report_to.begin(), options.report_to.end(), name) != options.report_to.end();
  };
  const std::string& folder = options.output_dir;
  if (is_asked_for("jsonl"))
    reporters_.push_back(
        std::make_unique<MetricsFile>(folder + "/metrics.jsonl", run.steps_done > 0 ? files::AppendFile::Open::kGoOn
                                                                                    : files::AppendFile::Open::kEmpty));
  if (is_asked_for("tensorboard"))
    reporters_.push_back(std::make_unique<SparedReporter>(
        [&] { return std::make_unique<TensorBoard>(folder + "/tensorboard", run); }, log));
  if (is_asked_for("prometheus"))
    reporters_.push_back(std::make_unique<SparedReporter>(
        [&] {
          return std::make_unique<PrometheusFile>(
              folder + "/metrics.prom", PrometheusLabels{{"method", run.method}, {"run", name_of_run(folder)}},
              run.steps_done);
        },
        log));
}

void Reporters::report(const StepMetrics& metrics) {
  for (const auto& reporter : reporters_) reporter->report(metrics);
}

void Reporters::close() {
  for (const auto& reporter : reporters_) reporter->close();
}

SparedReporter::SparedReporter(const std::function<std::unique_ptr<Reporter>()>& make, LogSink& log) : log_(log) {
  attempt([&] { reporter_ = make(); });
}

void SparedReporter::attempt(const std::function<void()>& use) {
  try {
    use();
  } catch (const DiskError& error) {
    reporter_.reset();
    log_.error(text(error.what(), ": no more numbers go there, training goes on"));
  }
}

void SparedReporter::report(const StepMetrics& metrics) {
  if (reporter_) attempt([&] { reporter_->report(metrics); });
}

void SparedReporter::close() {
  if (reporter_) attempt([&] { reporter_->close(); });
}

}  // namespace fpdist::trainer
