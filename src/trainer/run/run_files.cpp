#include "src/trainer/run/run_files.hpp"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "fpdist/comm/slow_work.hpp"
#include "fpdist/core/error.hpp"
#include "src/comm/broadcast_text.hpp"
#include "src/comm/gather_parts.hpp"
#include "src/core/words.hpp"
#include "src/trainer/run/old_run.hpp"

namespace fpdist::trainer {
namespace {

namespace fs = std::filesystem;

using InputAt = std::function<std::string(const std::string&)>;

constexpr char kOccupied = 'o', kCannotWrite = 'w';

/// What rank 0 has to refuse: one of the letters and, with kCannotWrite, the words. Nothing where all is ready.
std::string make_output_dir(const TrainOptions& options, const std::string& resolved_config, const InputAt& input_at) {
  const fs::path dir(options.output_dir);
  std::error_code error;
  const bool is_occupied = fs::exists(dir, error) && !fs::is_empty(dir, error);
  if (is_occupied && !options.overwrite_output_dir) return {kOccupied};
  try {
    if (is_occupied)
      remove_old_run(options.output_dir, [&](const std::string& file) { return !input_at(file).empty(); });
    fs::create_directories(dir / "logs", error);
    check<DiskError>(!error, "cannot make ", options.output_dir, "/logs: check the path and its permissions");
    files::write((dir / "config.resolved.yaml").string(), resolved_config);
  } catch (const DiskError& failure) {
    return kCannotWrite + std::string(failure.what());
  }
  return "";
}

/// The first input that this rank finds among what the run would write over; "" where there is none.
std::string input_in_the_way(const TrainOptions& options, const InputAt& input_at) {
  for (const std::string& file : files_in_the_way(options))
    if (const std::string input = input_at(file); !input.empty())
      return text("train.output_dir ", options.output_dir, ": the run would write over ", file, ", and ", input,
                  " is that file: choose another train.output_dir");
  return "";
}

}  // namespace

void prepare_output_dir(const TrainOptions& options, const std::string& resolved_config, const InputAt& input_at,
                        comm::Communicator& world) {
  const comm::SlowWork slow(world, text("preparing ", options.output_dir));
  for (const std::string& refusal : comm::gather_texts(input_in_the_way(options, input_at), world))
    check<ConfigError>(refusal.empty(), refusal);
  const std::string refusal =
      comm::broadcast_text(world.rank() == 0 ? make_output_dir(options, resolved_config, input_at) : "", 0, world);
  if (refusal.empty()) return;
  check<ConfigError>(refusal[0] != kOccupied, "train.output_dir ", options.output_dir,
                     " is not empty: choose another, or set train.overwrite_output_dir: true");
  throw DiskError(refusal.substr(1));
}

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

void write_flight_record(const TrainOptions& options, const comm::World& world, const std::string& error,
                         LogSink& log) noexcept {
  try {
    nlohmann::ordered_json record = nlohmann::ordered_json::parse(world.flight_record());
    record["error"] = error;
    files::write(text(options.output_dir, "/logs/rank_", world.rank(), ".flight.json"),
                 record.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
  } catch (const std::exception& failure) {  // the error itself is what the user must see
    log.warning(text("no flight record: ", failure.what()));
  }
}

void write_skipped_rows(const TrainOptions& options, const std::vector<std::string>& skipped) {
  if (skipped.empty()) return;
  std::string lines;
  for (const std::string& row : skipped) lines += row + "\n";
  files::write(options.output_dir + "/logs/skipped_rows.txt", lines);
}

std::string progress_line(const StepMetrics& metrics, int64_t max_steps, double elapsed_seconds,
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
  const double a_step = elapsed_seconds / static_cast<double>(metrics.step);
  return line + "  eta " + minutes(a_step * static_cast<double>(max_steps - metrics.step));
}

}  // namespace fpdist::trainer
