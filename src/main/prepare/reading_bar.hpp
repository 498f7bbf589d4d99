#pragma once
// main: how far reading has come, as a person sees it.

#include <string>

#include "fpdist/core/log.hpp"
#include "fpdist/data/reader.hpp"
#include "src/core/clock.hpp"

namespace fpdist::main_program {

/// "[#######.............]  35 %  12,000 rows, 4,100 rows/s, 2.6 MB/s, 0:05 left", `seconds` after the start. The time
/// that is left is not said before a hundredth is done.
std::string reading_line(const data::ReadState& state, double seconds);

/// Says it to `log`, which outlives it: on a terminal ten times a second at most, elsewhere every ten seconds.
class ReadingBar {
 public:
  ReadingBar(LogSink& log, bool on_terminal) : log_(log), pause_(on_terminal ? 0.1 : 10), on_terminal_(on_terminal) {}
  void see(const data::ReadState& state);

 private:
  LogSink& log_;
  double pause_, said_at_ = 0;  // seconds since the start
  bool on_terminal_;
  Clock::time_point start_ = Clock::now();
};

}  // namespace fpdist::main_program
