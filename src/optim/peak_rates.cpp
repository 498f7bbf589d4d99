#include "src/optim/peak_rates.hpp"

#include <fnmatch.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "fpdist/core/error.hpp"

namespace fpdist::optim {
namespace {

double rate_of(const std::string& pattern, const std::string& given) {
  double rate = 0;
  const char* end = given.data() + given.size();
  const auto [stop, error] = std::from_chars(given.data(), end, rate);
  check<ConfigError>(error == std::errc() && stop == end && std::isfinite(rate) && rate >= 0,
                     "optim.learning_rates: ", pattern, " has the rate ", given, "; it must be a number, 0 or more");
  return rate;
}

bool fits(const std::string& glob, const std::string& name) { return fnmatch(glob.c_str(), name.c_str(), 0) == 0; }

}  // namespace

PeakRates::PeakRates(const OptimOptions& options) : otherwise_(options.learning_rate) {
  for (const auto& [glob, rate] : options.learning_rates) patterns_.push_back({glob, rate_of(glob, rate)});
  std::stable_sort(patterns_.begin(), patterns_.end(),
                   [](const Pattern& a, const Pattern& b) { return a.glob.size() > b.glob.size(); });
}

void PeakRates::check_all_fit(std::span<const std::string> names) const {
  for (const Pattern& pattern : patterns_) {
    const bool fits_one =
        std::any_of(names.begin(), names.end(), [&](const std::string& name) { return fits(pattern.glob, name); });
    check<ConfigError>(
        fits_one, "optim.learning_rates: ", pattern.glob, " fits no weight of the model, whose names are ", "such as ",
        names.empty() ? "" : names[names.size() / 2], ": a pattern fits the whole name, * stands for any part of it");
  }
}

double PeakRates::of(const std::string& name) const {
  for (const Pattern& pattern : patterns_)
    if (fits(pattern.glob, name)) return pattern.rate;
  return otherwise_;
}

}  // namespace fpdist::optim
