#include "src/main/progress_bar.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/core/words.hpp"

namespace fpdist::main_program {
namespace {

constexpr size_t kLeastBar = 10, kMostBar = 50;

/// Eighths of a column where the terminal has them.
std::string bar(double part, size_t columns, bool is_utf8) {
  static constexpr const char* kEighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  const auto eighths = static_cast<size_t>(std::floor(part * static_cast<double>(8 * columns)));
  const size_t full = eighths / 8, rest = is_utf8 ? eighths % 8 : 0;
  std::string drawn;
  for (size_t column = 0; column < full; ++column) drawn += is_utf8 ? "█" : "#";
  drawn += kEighths[rest];
  return drawn + std::string(columns - full - (rest > 0 ? 1 : 0), is_utf8 ? ' ' : '.');
}

std::string short_count(double value) {
  if (value >= 9.995e5) return number("%.2fM", value / 1e6);
  return value >= 9995 ? number("%.0fk", value / 1e3) : number("%.0f", value);
}

/// "1:05", or "2:01:05" from an hour on.
std::string clock(double seconds) {
  if (seconds < 3599.5) return minutes(seconds);
  const auto whole = static_cast<int64_t>(seconds + 0.5);
  return text(whole / 3600, ':', whole % 3600 < 600 ? "0" : "", minutes(static_cast<double>(whole % 3600)));
}

/// The most important first.
std::vector<std::string> parts(const trainer::RunProgress& progress) {
  std::vector<std::string> all{text(progress.step, '/', progress.max_steps)};
  if (!progress.phase.empty()) all.push_back(progress.phase);
  if (std::isfinite(progress.loss)) all.push_back(number("loss %.4g", progress.loss));
  const bool is_known = std::isfinite(progress.seconds_left);
  all.push_back(text(clock(progress.elapsed_seconds), '<', is_known ? clock(progress.seconds_left) : "?"));
  if (std::isfinite(progress.tokens_per_second)) all.push_back(short_count(progress.tokens_per_second) + " tokens/s");
  if (!progress.shown.empty()) all.push_back(progress.shown);
  if (std::isfinite(progress.sharing_ratio)) all.push_back(number("sharing %.2fx", progress.sharing_ratio));
  return all;
}

}  // namespace

std::string progress_bar(const trainer::RunProgress& progress, size_t width, bool is_utf8) {
  const double part = progress.max_steps > 0
                          ? std::min(1.0, static_cast<double>(progress.step) / static_cast<double>(progress.max_steps))
                          : 0.0;
  const std::string percent = number("%3.0f%%", std::floor(100 * part));
  std::string words;
  const size_t without = percent.size() + 2 + kLeastBar;  // the bar and its ends
  for (const std::string& one : parts(progress)) {
    if (without + words.size() + 2 + one.size() > width) break;
    words += text("  ", one);
  }
  if (words.empty()) return percent.substr(0, width);  // no room for a bar either
  const size_t columns = std::min(kMostBar, width - percent.size() - 2 - words.size());
  return text(percent, '|', bar(part, columns, is_utf8), '|', words);
}

}  // namespace fpdist::main_program
