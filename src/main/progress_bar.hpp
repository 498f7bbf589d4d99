#pragma once
// main: the line that shows how far a run is.

#include <cstddef>
#include <string>

#include "fpdist/trainer/run_progress.hpp"

namespace fpdist::main_program {

/// " 42%|████▏     | 42/100  loss 0.512  1:05<1:30  98k tokens/s  10.1x": at most `width` columns. What has no room is
/// left out, the last first; the bar takes what is left over. `is_utf8`: the terminal shows more than ASCII.
std::string progress_bar(const trainer::RunProgress& progress, size_t width, bool is_utf8);

}  // namespace fpdist::main_program
