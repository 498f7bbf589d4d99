#include "src/trainer/watch/prometheus.hpp"

#include <cctype>
#include <chrono>
#include <cmath>

#include "fpdist/core/error.hpp"
#include "src/core/words.hpp"
#include "src/files/files.hpp"
#include "src/trainer/watch/metric_words.hpp"

namespace fpdist::trainer {
namespace {

constexpr std::chrono::seconds kLeastApart{1};

std::string metric_name(std::string_view name) {
  std::string safe = "fpdist_";
  for (const char c : name) safe += std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return safe;
}

/// With a backslash ahead of what the format reads otherwise.
std::string escaped(std::string_view words) {
  std::string safe;
  for (const char c : words) {
    if (c == '\\' || c == '"' || c == '\n') safe += '\\';
    safe += c == '\n' ? 'n' : c;
  }
  return safe;
}

std::string value_text(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  return number("%.17g", value);
}

std::string gauge(std::string_view name, double value, std::string_view meaning, const std::string& labels) {
  const std::string metric = metric_name(name);
  return text("# HELP ", metric, ' ', meaning.empty() ? name : meaning, "\n# TYPE ", metric, " gauge\n", metric, labels,
              ' ', value_text(value), '\n');
}

}  // namespace

std::string prometheus_text(const StepMetrics& metrics, const PrometheusLabels& labels) {
  std::string all;
  for (const auto& [label, value] : labels) all += text(all.empty() ? "{" : ",", label, "=\"", escaped(value), '"');
  if (!all.empty()) all += '}';
  std::string text = gauge("step", static_cast<double>(metrics.step), meaning_of("step"), all);
  for (const auto& [name, value] : metrics.values) text += gauge(name, value, meaning_of(name), all);
  return text;
}

PrometheusFile::PrometheusFile(std::string path, PrometheusLabels labels, int64_t step)
    : path_(std::move(path)), labels_(std::move(labels)), newest_{.step = step, .values = {}} {
  write();
}

void PrometheusFile::report(const StepMetrics& metrics) {
  newest_.step = metrics.step;
  for (const auto& [name, value] : metrics.values) newest_.values[name] = value;
  if (Clock::now() - written_ >= kLeastApart) write();
}

void PrometheusFile::close() { write(); }

void PrometheusFile::write() {
  files::write(path_, prometheus_text(newest_, labels_));
  written_ = Clock::now();
}

}  // namespace fpdist::trainer
