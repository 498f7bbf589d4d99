#pragma once
// trainer (private): what a run writes into output_dir, besides the weights.

#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "fpdist/comm/world.hpp"
#include "fpdist/core/log.hpp"
#include "fpdist/loss/spec.hpp"
#include "fpdist/trainer/trainer.hpp"
#include "src/core/clock.hpp"
#include "src/files/files.hpp"

namespace fpdist::trainer {

/// Collective. Rank 0 removes what an earlier run wrote, makes output_dir and logs/ and writes config.resolved.yaml.
/// `input_at`: what a path is to this run, as Trainer::input_at says. Throws on every rank, with the same words, and
/// has touched nothing then: ConfigError when output_dir holds anything and train.overwrite_output_dir is false, and
/// where any rank finds an input among what the run would write over; DiskError.
void prepare_output_dir(const TrainOptions& options, const std::string& resolved_config,
                        const std::function<std::string(const std::string& path)>& input_at, comm::Communicator& world);

/// logs/rank_N.log and the caller's sink at once. The file gets every line with the seconds since the start. When it
/// cannot be written, the sink gets one error that says so, and from then on the lines that it gets anyway: training
/// goes on.
class RankLog final : public LogSink {
 public:
  RankLog(LogSink& sink, const std::string& path, bool to_sink);
  ~RankLog() override;
  void write(LogLevel level, std::string_view line) override;
  void progress(std::string_view line) override;

 private:
  template <typename Use>
  void use_file(Use use);
  void to_file(LogLevel level, std::string_view line);
  LogSink& sink_;
  bool to_sink_;
  std::optional<files::AppendFile> file_;  ///< empty once it cannot be written
  std::mutex mutex_;
  Clock::time_point start_;
};

/// Not collective, never throws: logs/rank_N.flight.json, what this rank was doing when `error` ended it. `log` hears
/// when it cannot be written.
void write_flight_record(const TrainOptions& options, const comm::World& world, const std::string& error,
                         LogSink& log) noexcept;

/// logs/skipped_rows.txt, a line a row that was left out; nothing where none was. Throws DiskError.
void write_skipped_rows(const TrainOptions& options, const std::vector<std::string>& skipped);

/// "step 12/100  loss 0.512  ...  eta 1:05": the few numbers a person watches, `shown` among them.
std::string progress_line(const StepMetrics& metrics, int64_t max_steps, double elapsed_seconds,
                          const loss::Shown& shown);

}  // namespace fpdist::trainer
