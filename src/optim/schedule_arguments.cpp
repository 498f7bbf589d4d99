#include "src/optim/schedule_arguments.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "fpdist/core/error.hpp"
#include "src/core/key.hpp"

namespace fpdist::optim {
namespace {

constexpr std::string_view kKey = "optim.lr_scheduler_kwargs";

}  // namespace

ScheduleArguments::ScheduleArguments(const OptimOptions& options, std::string_view type,
                                     std::span<const std::string_view> known)
    : options_(options), type_(type) {
  for (const auto& [name, value] : options.lr_scheduler_kwargs)
    check<ConfigError>(std::find(known.begin(), known.end(), name) != known.end(), kKey, ".", name, ": ", type,
                       known.empty() ? " takes no arguments: leave it out"
                                     : " has no such argument; it has " + joined(known, ", ", " and "));
}

const std::string* ScheduleArguments::find(std::string_view name) const {
  const auto found = options_.lr_scheduler_kwargs.find(std::string(name));
  return found == options_.lr_scheduler_kwargs.end() ? nullptr : &found->second;
}

void ScheduleArguments::refuse(std::string_view what) const { throw ConfigError(text(kKey, ": ", type_, ": ", what)); }
void ScheduleArguments::refuse(std::string_view name, std::string_view must) const {
  throw ConfigError(text(kKey, ".", name, " is ", *find(name), "; it must be ", must));
}

std::optional<double> ScheduleArguments::number(std::string_view name) const {
  const std::string* value = find(name);
  if (!value) return std::nullopt;
  double number = 0;
  const char* end = value->data() + value->size();
  const auto [stop, error] = std::from_chars(value->data(), end, number);
  if (error != std::errc() || stop != end || !std::isfinite(number)) refuse(name, "a number");
  return number;
}

std::optional<double> ScheduleArguments::steps(std::string_view name) const {
  const std::optional<double> given = number(name);
  if (given && (*given < 0 || *given != std::floor(*given))) refuse(name, "a number of steps, 0 or more");
  return given;
}

std::string_view ScheduleArguments::word(std::string_view name, std::span<const std::string_view> words,
                                         std::string_view otherwise) const {
  const std::string* value = find(name);
  if (!value) return otherwise;
  if (std::find(words.begin(), words.end(), *value) == words.end()) refuse(name, joined(words, ", ", " or "));
  return *value;
}

}  // namespace fpdist::optim
