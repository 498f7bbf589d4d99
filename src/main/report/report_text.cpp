// The report for a terminal.

#include <algorithm>
#include <cmath>

#include "fpdist/core/error.hpp"
#include "src/main/report/recorded_run.hpp"

namespace fpdist::main_program {
namespace {

using Rows = std::vector<std::pair<std::string, std::vector<std::string>>>;

constexpr size_t kCourse = 32;  // characters

/// Characters that a terminal shows: bytes of UTF-8 that begin one.
size_t width_of(const std::string& words) {
  return static_cast<size_t>(
      std::count_if(words.begin(), words.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

std::string padded(const std::string& words, size_t width) {
  return words + std::string(width - std::min(width, width_of(words)), ' ');
}

/// A bar a part of the run, between its lowest and its highest.
std::string course(const StepTable& table, const std::string& name) {
  static constexpr const char* kBars[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  const StepTable thin = table.thinned(kCourse);
  double low = INFINITY, high = -INFINITY;
  for (const double value : thin.of(name))
    if (std::isfinite(value)) low = std::min(low, value), high = std::max(high, value);
  std::string bars;
  for (const double value : thin.of(name)) {
    const double part = high > low ? (value - low) / (high - low) : 0;
    bars += std::isfinite(value) ? kBars[static_cast<size_t>(std::lround(7 * part))] : " ";
  }
  return bars;
}

/// Columns as wide as what they hold.
std::string table(const Rows& rows) {
  std::vector<size_t> widths;
  for (const auto& [label, cells] : rows) {
    widths.resize(std::max(widths.size(), cells.size() + 1));
    widths[0] = std::max(widths[0], width_of(label));
    for (size_t c = 0; c < cells.size(); ++c) widths[c + 1] = std::max(widths[c + 1], width_of(cells[c]));
  }
  std::string out;
  for (const auto& [label, cells] : rows) {
    std::string line = padded(label, widths[0]);
    for (size_t c = 0; c < cells.size(); ++c) line += text("  ", padded(cells[c], widths[c + 1]));
    out += line.substr(0, line.find_last_not_of(' ') + 1) + '\n';
  }
  return out;
}

Rows with_names(const std::string& label, const std::vector<RecordedRun>& runs, Rows rows) {
  std::vector<std::string> names;
  for (const RecordedRun& run : runs) names.push_back(run.name);
  rows.emplace(rows.begin(), label, names);
  return rows;
}

}  // namespace

std::string report_text(const std::vector<RecordedRun>& runs) {
  Rows all = with_names("run", runs, facts(runs));
  std::vector<std::string> courses;
  for (const RecordedRun& run : runs) courses.push_back(course(run.training, "loss"));
  all.emplace_back("loss over the run", courses);
  std::string out = table(all);
  const Rows different = config_differences(runs);
  if (!different.empty()) out += text("\n", table(with_names("differs in", runs, different)));
  for (const RecordedRun& run : runs)
    for (const std::string& note : run.notes) out += text("note: ", run.name, ": ", note, '\n');
  return out;
}

}  // namespace fpdist::main_program
