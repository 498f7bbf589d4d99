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

/// logs/rank_N.log and the caller's sink at once. The file gets every line with the seconds since the start. When it
/// cannot be written, the sink gets one error that says so, and from then on the lines that it gets anyway: training
/// goes on.
class RankLog final : public LogSink {
 public:
  RankLog(LogSink& sink, const std::string& path, bool to_sink);
  ~RankLog() override;
  void write(LogLevel level, std::string_view line) override;
  void progress(std::string_view line) override;
  /// Into the file alone.
  void to_file(LogLevel level, std::string_view line);

 private:
  template <typename Use>
  void use_file(Use use);
  LogSink& sink_;
  bool to_sink_;
  std::optional<files::AppendFile> file_;  ///< empty once it cannot be written
  std::mutex mutex_;
  Clock::time_point start_;
};

/// Why a rank ended, for its flight record.
struct RunFailure {
  std::string error;
  std::string saving;  ///< Trainer::doing: the checkpoint that was under way beside the steps
};

/// Not collective, never throws: logs/rank_N.flight.json, what this rank was doing when the error ended it. `log` hears
/// when it cannot be written.
void write_flight_record(const TrainOptions& options, const comm::World& world, const RunFailure& failure,
                         LogSink& log) noexcept;

/// logs/skipped_rows.txt, a line a row that was left out; nothing where none was. Throws DiskError.
void write_skipped_rows(const TrainOptions& options, const std::vector<std::string>& skipped);

/// "step 12/100  loss 0.512  ...  eta 1:05": the few numbers a person watches, `shown` among them.
std::string progress_line(const StepMetrics& metrics, int64_t max_steps, double seconds_a_step,
                          const loss::Shown& shown);

}  // namespace fpdist::trainer
