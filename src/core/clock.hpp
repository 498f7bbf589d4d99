#pragma once
// core: how long something took on the host.

#include <chrono>

namespace fpdist {

/// Never set back.
using Clock = std::chrono::steady_clock;

inline double to_seconds(std::chrono::duration<double> time) { return time.count(); }

/// Seconds from `start` to now.
inline double seconds_since(Clock::time_point start) { return to_seconds(Clock::now() - start); }

}  // namespace fpdist
