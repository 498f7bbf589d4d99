#include "src/trainer/run/run_files.hpp"

#include <nlohmann/json.hpp>

#include "fpdist/core/error.hpp"
#include "src/core/words.hpp"

namespace fpdist::trainer {

RankLog::RankLog(LogSink& sink, const std::string& path, bool to_sink)
    : sink_(sink), to_sink_(to_sink), start_(Clock::now()) {
  use_file([&] { file_.emplace(path, files::AppendFile::Open::kGoOn); });
}

RankLog::~RankLog() {
  if (file_) use_file([&] { file_->close(); });
}

template <typename Use>
void RankLog::use_file(Use use) {
  try {
    use();
  } catch (const DiskError& error) {
    file_.reset();
    sink_.error(text(error.what(), ": no more lines go there, training goes on"));
  }
}

void RankLog::to_file(LogLevel level, std::string_view line) {
  const std::lock_guard lock(mutex_);
  if (!file_) return;
  const char* name = level == LogLevel::kInfo ? "info" : level == LogLevel::kWarning ? "warning" : "error";
  use_file([&] { file_->line(text(number("%9.3f ", seconds_since(start_)), name, ' ', line)); });
}

void RankLog::write(LogLevel level, std::string_view line) {
  to_file(level, line);
  if (to_sink_ || level == LogLevel::kError) sink_.write(level, line);
}

void RankLog::progress(std::string_view line) {
  to_file(LogLevel::kInfo, line);
  if (to_sink_) sink_.progress(line);
}

void write_flight_record(const TrainOptions& options, const comm::World& world, const RunFailure& failure,
                         LogSink& log) noexcept {
  try {
    nlohmann::ordered_json record = nlohmann::ordered_json::parse(world.flight_record());
    record["error"] = failure.error;
    if (!failure.saving.empty()) record["checkpoint"] = failure.saving;
    files::write(text(options.output_dir, "/logs/rank_", world.rank(), ".flight.json"),
                 record.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
  } catch (const std::exception& unwritten) {  // the error itself is what the user must see
    log.warning(text("no flight record: ", unwritten.what()));
  }
}

void write_skipped_rows(const TrainOptions& options, const std::vector<std::string>& skipped) {
  if (skipped.empty()) return;
  std::string lines;
  for (const std::string& row : skipped) lines += row + "\n";
  files::write(options.output_dir + "/logs/skipped_rows.txt", lines);
}

std::string progress_line(const StepMetrics& metrics, int64_t max_steps, double seconds_a_step,
                          const loss::Shown& shown) {
  const auto value = [&](const std::string& name) {
    const auto found = metrics.values.find(name);
    return found == metrics.values.end() ? 0.0 : found->second;
  };
  const std::string metric(shown.metric);
  std::string line = text("step ", metrics.step, "/", max_steps, number("  loss %.4f", value("loss")));
  if (!shown.label.empty() && metrics.values.contains(metric))
    line += text("  ", shown.label, number(" %.3f", value(metric)));
  line += number("  grad_norm %.3g", value("grad_norm")) + number("  lr %.2e", value("learning_rate")) +
          number("  sharing %.2fx", value("sharing_ratio")) + number("  %.0f tokens/s", value("tokens_per_second"));
  return line + "  eta " + minutes(seconds_a_step * static_cast<double>(max_steps - metrics.step));
}

}  // namespace fpdist::trainer
