#include "src/core/words.hpp"

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include "fpdist/core/error.hpp"

namespace fpdist {

std::string number(const char* format, double value) {
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, format, value);
  return buffer;
}

std::string gib_text(int64_t bytes) { return text(std::round(in_gib(bytes) * 100) / 100, " GiB"); }

std::string bytes_text(int64_t bytes) {
  return bytes < kGiB ? number("%.1f MiB", in_mib(bytes)) : number("%.2f GiB", in_gib(bytes));
}

std::string percent(double share) { return number("%.1f %%", 100 * share); }

std::string minutes(double seconds) {
  const auto whole = static_cast<int64_t>(seconds + 0.5);
  return text(whole / 60, ":", whole % 60 < 10 ? "0" : "", whole % 60);
}

std::string looked_in(const std::string& path) {
  std::error_code unknown;
  if (std::filesystem::path(path).is_absolute()) return "";
  return text(" in ", std::filesystem::current_path(unknown).string(), ", where this was started");
}

}  // namespace fpdist
