#include "src/trainer/watch/tensorboard.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <map>
#include <sstream>
#include <string_view>

#include "fpdist/core/error.hpp"
#include "src/trainer/watch/event_records.hpp"

namespace fpdist::trainer {
namespace {

namespace fs = std::filesystem;

double now() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

/// Behind all that are there, whatever the clock says.
std::string next_file(const std::string& folder) {
  constexpr std::string_view kBegin = "events.out.tfevents.";
  std::error_code error;
  fs::create_directories(folder, error);
  check<DiskError>(!error, "cannot make ", folder, ": ", error.message(), ": check the path and its permissions");
  auto seconds = static_cast<int64_t>(now());
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    int64_t there = 0;
    if (name.starts_with(kBegin)) std::from_chars(name.data() + kBegin.size(), name.data() + name.size(), there);
    seconds = std::max(seconds, there + 1);
  }
  return text(folder, '/', kBegin, seconds, ".fpdist");
}

/// As a block of code, which is shown as it stands.
std::string markdown(const std::string& yaml) {
  std::istringstream lines(yaml);
  std::string block;
  for (std::string line; std::getline(lines, line);) block += "    " + line + "\n";
  return block;
}

std::string tag_of(std::string_view name) {
  constexpr std::string_view kEval = "eval_";
  return name.starts_with(kEval) ? text("eval/", name.substr(kEval.size())) : text("train/", name);
}

}  // namespace

TensorBoard::TensorBoard(const std::string& folder, const ReportedRun& run)
    : file_(next_file(folder), files::AppendFile::Open::kEmpty) {
  file_.append(version_record(now()));
  if (run.steps_done > 0) file_.append(restart_record(now(), run.steps_done + 1));
  file_.append(text_record(now(), "config", markdown(run.config_yaml)));
}

void TensorBoard::report(const StepMetrics& metrics) {
  std::map<std::string, double> values;
  for (const auto& [name, value] : metrics.values)
    if (std::isfinite(value)) values[tag_of(name)] = value;
  file_.append(scalars_record(now(), metrics.step, values));
}

}  // namespace fpdist::trainer
