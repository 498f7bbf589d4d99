#pragma once
// optim (private): optim.lr_scheduler_kwargs, the arguments of one schedule.

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "fpdist/optim/options.hpp"

namespace fpdist::optim {

/// Each call throws ConfigError naming optim.lr_scheduler_kwargs.<name> for a value that is not what was asked for.
class ScheduleArguments {
 public:
  /// `known`: names of the arguments that `type` has. Throws ConfigError for any other; `options` must outlive it.
  ScheduleArguments(const OptimOptions& options, std::string_view type, std::span<const std::string_view> known);

  std::optional<double> number(std::string_view name) const;
  double number(std::string_view name, double otherwise) const { return number(name).value_or(otherwise); }
  /// A whole number, 0 or more.
  std::optional<double> steps(std::string_view name) const;
  std::string_view word(std::string_view name, std::span<const std::string_view> words,
                        std::string_view otherwise) const;
  /// Throws ConfigError: `what` ("num_decay_steps is missing") of the schedule's arguments.
  [[noreturn]] void refuse(std::string_view what) const;

 private:
  const std::string* find(std::string_view name) const;
  [[noreturn]] void refuse(std::string_view name, std::string_view must) const;
  const OptimOptions& options_;
  std::string_view type_;
};

}  // namespace fpdist::optim
