// What is said of a run in a number or two, for the terminal and the page alike.

#include <algorithm>
#include <cmath>
#include <numeric>

#include "fpdist/core/error.hpp"
#include "src/core/words.hpp"
#include "src/main/report/recorded_run.hpp"

namespace fpdist::main_program {
namespace {

std::vector<double> finite(const std::vector<double>& values) {
  std::vector<double> kept;
  std::copy_if(values.begin(), values.end(), std::back_inserter(kept),
               [](double value) { return std::isfinite(value); });
  return kept;
}

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// Of the last tenth of a run's lines, ten at least: what it has come to.
double at_the_end(const std::vector<double>& values) {
  const size_t count = std::min(values.size(), std::max<size_t>(10, values.size() / 10));
  return mean({values.end() - static_cast<std::ptrdiff_t>(count), values.end()});
}

std::string duration(double seconds) {
  if (seconds < 60) return number("%.1f s", seconds);
  if (seconds < 6000) return minutes(seconds) + " min";
  return number("%.1f h", seconds / 3600);
}

std::string steps(const RecordedRun& run) {
  if (run.training.step.empty()) return "none yet";
  return run.max_steps > 0 ? text(run.training.step.back(), " of ", run.max_steps) : text(run.training.step.back());
}

/// Lines of every n-th step speak for the ones between.
std::string time(const RecordedRun& run) {
  const std::vector<double>& seconds = run.training.of("seconds");
  double sum = 0;
  for (size_t row = 0; row < seconds.size(); ++row)
    if (std::isfinite(seconds[row]))
      sum += seconds[row] * static_cast<double>(run.training.step[row] - (row > 0 ? run.training.step[row - 1] : 0));
  return sum > 0 ? duration(sum) : "";
}

std::string loss(const RecordedRun& run) {
  const std::vector<double> values = finite(run.training.of("loss"));
  return values.empty() ? "" : number("%.4f", values.front()) + number(" to %.4f", at_the_end(values));
}

std::string best_evaluation(const RecordedRun& run) {
  const std::vector<double>& values = run.evaluation.of("eval_loss");
  size_t best = values.size();
  for (size_t row = 0; row < values.size(); ++row)
    if (std::isfinite(values[row]) && (best == values.size() || values[row] < values[best])) best = row;
  return best == values.size() ? "" : text(number("%.4f", values[best]), " at step ", run.evaluation.step[best]);
}

std::string middle(const RecordedRun& run, const char* name, const char* format) {
  const std::vector<double> values = finite(run.training.of(name));
  return values.empty() ? "" : number(format, median(values));
}

/// Of all tokens of the lines.
std::string sharing(const RecordedRun& run) {
  const std::vector<double> logical = finite(run.training.of("tokens_logical"));
  const std::vector<double> computed = finite(run.training.of("tokens_computed"));
  const double rows = std::accumulate(computed.begin(), computed.end(), 0.0);
  return rows > 0 ? number("%.2fx", std::accumulate(logical.begin(), logical.end(), 0.0) / rows) : "";
}

std::string against_plan(const RecordedRun& run) {
  const std::vector<double>&measured = run.training.of("measured_seconds"),
        &planned = run.training.of("planned_seconds");
  std::vector<double> ratios;
  for (size_t row = 0; row < std::min(measured.size(), planned.size()); ++row)
    if (planned[row] > 0) ratios.push_back(measured[row] / planned[row]);
  return ratios.empty() ? "" : number("%.2f", median(finite(ratios)));
}

std::string share(const RecordedRun& run, const char* name) {
  const std::vector<double> values = finite(run.training.of(name));
  return values.empty() ? "" : percent(mean(values));
}

std::string memory(const RecordedRun& run) {
  const std::vector<double> values = finite(run.training.of("memory/peak_bytes"));
  return values.empty() ? "" : gib_text(static_cast<int64_t>(*std::max_element(values.begin(), values.end())));
}

std::string sent(const RecordedRun& run) {
  double bytes = 0;
  for (const auto& [name, values] : run.training.column)
    if (name.starts_with("comm/") && name.ends_with("_bytes") && !finite(values).empty()) bytes += mean(finite(values));
  return bytes > 0 ? bytes_text(static_cast<int64_t>(bytes)) : "";
}

}  // namespace

std::vector<std::pair<std::string, std::vector<std::string>>> facts(const std::vector<RecordedRun>& runs) {
  using Say = std::string (*)(const RecordedRun&);
  static constexpr std::pair<const char*, Say> kFacts[] = {
      {"method", [](const RecordedRun& run) { return run.method; }},
      {"mesh", [](const RecordedRun& run) { return run.mesh; }},
      {"steps", steps},
      {"time in steps", time},
      {"loss", loss},
      {"best eval_loss", best_evaluation},
      {"tokens/s", [](const RecordedRun& run) { return middle(run, "tokens_per_second", "%.0f"); }},
      {"sharing", sharing},
      {"mfu", [](const RecordedRun& run) { return share(run, "mfu"); }},
      {"measured / planned", against_plan},
      {"bubble", [](const RecordedRun& run) { return share(run, "bubble"); }},
      {"exposed communication", [](const RecordedRun& run) { return share(run, "exposed_communication"); }},
      {"sent a step", sent},
      {"peak memory", memory}};
  std::vector<std::pair<std::string, std::vector<std::string>>> all;
  for (const auto& [label, say] : kFacts) {
    std::vector<std::string> values;
    for (const RecordedRun& run : runs) values.push_back(say(run));
    if (std::any_of(values.begin(), values.end(), [](const std::string& value) { return !value.empty(); }))
      all.emplace_back(label, values);
  }
  return all;
}

}  // namespace fpdist::main_program
