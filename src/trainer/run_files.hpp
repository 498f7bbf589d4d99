#pragma once
// trainer (private): what a run writes into output_dir, besides the weights.

#include <fstream>
#include <mutex>
#include <string>

#include "fpdist/comm/world.hpp"
#include "fpdist/core/log.hpp"
#include "fpdist/trainer/trainer.hpp"

namespace fpdist::trainer {

/// Collective. Rank 0 makes output_dir and logs/ and writes config.resolved.yaml; ConfigError on every rank when it
/// holds an earlier run and train.overwrite_output_dir is false.
void prepare_output_dir(const TrainOptions& options, const std::string& resolved_config, comm::Communicator& world);

/// logs/rank_N.log and the caller's sink at once. The file gets every line with the seconds since the start.
class RankLog final : public LogSink {
 public:
  RankLog(LogSink& sink, const std::string& path, bool to_sink);
  void write(LogLevel level, std::string_view line) override;
  void progress(std::string_view line) override;

 private:
  void to_file(LogLevel level, std::string_view line);
  LogSink& sink_;
  bool to_sink_;
  std::ofstream file_;
  std::mutex mutex_;
  double start_;
};

/// metrics.jsonl: one object a step, names in alphabetical order after step; what is not a number is null.
class MetricsFile {
 public:
  explicit MetricsFile(const std::string& path);  ///< throws DiskError
  void write(const StepMetrics& metrics);         ///< throws DiskError when the line could not be written whole

 private:
  std::string path_;
  std::ofstream file_;
};

/// Not collective, never throws: logs/rank_N.flight.json, what this rank was doing when `error` ended it.
void write_flight_record(const TrainOptions& options, const comm::World& world, const std::string& error) noexcept;

/// "step 12/100  loss 0.512  ...  eta 1:05": the few numbers a person watches.
std::string progress_line(const StepMetrics& metrics, int64_t max_steps, double elapsed_seconds, Method method);

}  // namespace fpdist::trainer
