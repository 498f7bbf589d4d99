#include "src/main/prepare/reading_bar.hpp"

#include <algorithm>
#include <cstddef>

#include "fpdist/core/error.hpp"
#include "src/core/words.hpp"

namespace fpdist::main_program {
namespace {

constexpr int kWidth = 20;  // letters of the bar

}  // namespace

std::string reading_line(const data::ReadState& state, double seconds) {
  const double part = state.of_bytes > 0
                          ? std::min(1.0, static_cast<double>(state.file_bytes) / static_cast<double>(state.of_bytes))
                          : 1.0;
  const auto filled = static_cast<size_t>(part * kWidth);
  const double time = std::max(seconds, 1e-3);
  std::string line =
      text("[", std::string(filled, '#'), std::string(kWidth - filled, '.'), "] ", number("%3.0f %%  ", 100 * part),
           state.rows, " rows, ", number("%.0f rows/s, ", static_cast<double>(state.rows) / time),
           number("%.1f MB/s", 1e-6 * static_cast<double>(state.text_bytes) / time));
  if (part >= 1) return line + text(", ", minutes(seconds));
  return part < 0.01 ? line : line + text(", ", minutes(seconds * (1 - part) / part), " left");
}

void ReadingBar::see(const data::ReadState& state) {
  const double now = seconds_since(start_);
  const bool is_last = state.file_bytes >= state.of_bytes;
  if (now - said_at_ < pause_ && !(is_last && on_terminal_)) return;
  said_at_ = now;
  log_.progress(reading_line(state, now));
}

}  // namespace fpdist::main_program
