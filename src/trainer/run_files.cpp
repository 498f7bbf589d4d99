#include "src/trainer/run_files.hpp"

#include <ATen/ops/zeros.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "fpdist/core/error.hpp"

namespace fpdist::trainer {
namespace {

namespace fs = std::filesystem;

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::string number(const char* format, double value) {
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, format, value);
  return buffer;
}

/// What rank 0 found, agreed on by all ranks.
enum class Found : int64_t { kReady = 0, kOccupied = 1, kCannotWrite = 2 };

Found make_directories(const TrainOptions& options, const std::string& resolved_config) {
  const fs::path dir(options.output_dir);
  std::error_code error;
  const bool occupied = fs::exists(dir, error) && !fs::is_empty(dir, error);
  if (occupied && !options.overwrite_output_dir) return Found::kOccupied;
  for (const char* old : {"metrics.jsonl", "logs", "final", "config.resolved.yaml"}) fs::remove_all(dir / old, error);
  fs::create_directories(dir / "logs", error);
  std::ofstream(dir / "config.resolved.yaml") << resolved_config;
  return error ? Found::kCannotWrite : Found::kReady;
}

}  // namespace

void prepare_output_dir(const TrainOptions& options, const std::string& resolved_config, comm::Communicator& world) {
  at::Tensor found = at::zeros({1}, at::kLong);
  if (world.rank() == 0) found.fill_(static_cast<int64_t>(make_directories(options, resolved_config)));
  world.broadcast(found, 0);
  const auto state = static_cast<Found>(found.item<int64_t>());
  check<ConfigError>(state != Found::kOccupied, "train.output_dir ", options.output_dir,
                     " is not empty: choose another, or set train.overwrite_output_dir: true");
  check<DiskError>(state != Found::kCannotWrite, "cannot make ", options.output_dir,
                   "/logs: check the path and its permissions");
}

RankLog::RankLog(LogSink& sink, const std::string& path, bool to_sink)
    : sink_(sink), to_sink_(to_sink), file_(path, std::ios::app), start_(now_seconds()) {}

void RankLog::to_file(LogLevel level, std::string_view line) {
  const std::lock_guard lock(mutex_);
  const char* name = level == LogLevel::kInfo ? "info" : level == LogLevel::kWarning ? "warning" : "error";
  file_ << number("%9.3f ", now_seconds() - start_) << name << ' ' << line << std::endl;
}

void RankLog::write(LogLevel level, std::string_view line) {
  to_file(level, line);
  if (to_sink_ || level == LogLevel::kError) sink_.write(level, line);
}

void RankLog::progress(std::string_view line) {
  to_file(LogLevel::kInfo, line);
  if (to_sink_) sink_.progress(line);
}

MetricsFile::MetricsFile(const std::string& path) : path_(path), file_(path, std::ios::trunc) {
  check<DiskError>(file_.is_open(), "cannot write ", path, ": check the path and its permissions");
}

void MetricsFile::write(const StepMetrics& metrics) {
  std::string line = text("{\"step\": ", metrics.step);
  for (const auto& [name, value] : metrics.values)
    line += text(", \"", name, "\": ", std::isfinite(value) ? number("%.17g", value) : "null");
  file_ << line << "}\n" << std::flush;
  check<DiskError>(file_.good(), "cannot write ", path_, ": is the disk full?");
}

void write_flight_record(const TrainOptions& options, const comm::World& world, const std::string& error) noexcept {
  try {
    nlohmann::ordered_json record = nlohmann::ordered_json::parse(world.flight_record());
    record["error"] = error;
    std::ofstream file(text(options.output_dir, "/logs/rank_", world.rank(), ".flight.json"));
    file << record.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << std::endl;
  } catch (const std::exception&) {  // the error itself is what the user must see
  }
}

std::string progress_line(const StepMetrics& metrics, int64_t max_steps, double elapsed_seconds, Method method) {
  const auto value = [&](const char* name) {
    const auto found = metrics.values.find(name);
    return found == metrics.values.end() ? 0.0 : found->second;
  };
  std::string line = text("step ", metrics.step, "/", max_steps, number("  loss %.4f", value("loss")));
  if (method == Method::kDpo) line += number("  accuracy %.3f", value("rewards/accuracies"));
  if (method == Method::kReward) line += number("  accuracy %.3f", value("accuracy"));
  if (method == Method::kGrpo && metrics.values.count("reward")) line += number("  reward %.3f", value("reward"));
  line += number("  grad_norm %.3g", value("grad_norm")) + number("  lr %.2e", value("learning_rate")) +
          number("  sharing %.2fx", value("sharing_ratio")) + number("  %.0f tokens/s", value("tokens_per_second"));
  const auto eta = static_cast<int64_t>(
      elapsed_seconds / static_cast<double>(metrics.step) * static_cast<double>(max_steps - metrics.step) + 0.5);
  return line + text("  eta ", eta / 60, ":", eta % 60 < 10 ? "0" : "", eta % 60);
}

}  // namespace fpdist::trainer
