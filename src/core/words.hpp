#pragma once
// core: numbers and places as messages say them.

#include <cstdint>
#include <string>

namespace fpdist {

constexpr int64_t kKiB = int64_t{1} << 10, kMiB = int64_t{1} << 20, kGiB = int64_t{1} << 30;

constexpr double in_mib(int64_t bytes) { return static_cast<double>(bytes) / static_cast<double>(kMiB); }
constexpr double in_gib(int64_t bytes) { return static_cast<double>(bytes) / static_cast<double>(kGiB); }

/// `value` by a printf format with one conversion of a double: number("%.1f", 2.25) is "2.2".
std::string number(const char* format, double value);

/// "1.5 MiB", one digit behind the point; from a GiB on "2.25 GiB".
std::string bytes_text(int64_t bytes);
/// "2.25 GiB", two digits at most.
std::string gib_text(int64_t bytes);
/// "12.5 %" for 0.125, one digit behind the point.
std::string percent(double share);
/// "1:05" for 65 seconds, rounded to whole ones.
std::string minutes(double seconds);

/// Behind the name of a file that is not there: " in /home/me, where this was started" for a relative path, as ours
/// count from the working directory whatever file they stand in; nothing for another.
std::string looked_in(const std::string& path);

}  // namespace fpdist
